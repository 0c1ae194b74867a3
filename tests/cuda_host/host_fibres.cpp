/* host_fibres.cpp - the threads of a block as fibres, one block after another.
 *
 * A fibre runs threads until one of them has to wait, so that a kernel without barriers costs no
 * switch at all. Waiting is of two kinds: for the block (a barrier) and for the warp (shuffles and
 * whatever is built of them). A wait that cannot end is an error with the numbers of its threads.
 * AD_HOST_ORDER=backward or shuffled starts threads in another order: a missing barrier then shows.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

#include "cuda_runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

HcThread *hc_now;

void hc_die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fprintf(stderr, "cuda_host: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    abort();
}

/* ---- switching stacks --------------------------------------------------------------------- */

enum { STACK = 256 << 10, THREADS = 1024 };

struct Copy { void *to; const void *from; bool there; int group; };

struct Fibre {
    void      *sp;              /* saved stack pointer, or a ucontext_t elsewhere */
    char      *stack;
    HcThread   thread;
    enum { IDLE, READY, BARRIER, WARP } state;
    ucontext_t context;
    void      *fake = NULL;     /* the address sanitizer's */
    std::vector<Copy> copies;   /* that were asked for and not yet waited for */
    int        groups;          /* committed */
};

#if defined(__x86_64__)
extern "C" void hc_swap(void **save, void *load);
asm(".text\n.globl hc_swap\n.type hc_swap,@function\nhc_swap:\n"
    "  endbr64\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n"
    ".size hc_swap,.-hc_swap\n");

static void swap(Fibre *from, Fibre *to) { hc_swap(&from->sp, to->sp); }

static void prepare(Fibre *f, void (*entry)(void))
{
    void **top = (void **)(f->stack + STACK - 64);

    *--top = NULL;                      /* where entry would return to: it never does */
    *--top = (void *)entry;
    for (int i = 0; i < 6; i++)
        *--top = NULL;
    f->sp = top;
}
#else
static void swap(Fibre *from, Fibre *to) { swapcontext(&from->context, &to->context); }

static void prepare(Fibre *f, void (*entry)(void))
{
    getcontext(&f->context);
    f->context.uc_stack.ss_sp   = f->stack;
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = NULL;
    makecontext(&f->context, entry, 0);
}
#endif

/* ---- one block ---------------------------------------------------------------------------- */

static std::mutex one_launch;           /* the state below belongs to one kernel at a time */

static struct State {
    const std::function<void()> *kernel;
    const char *name;
    dim3     grid, block, at;
    unsigned threads, started, live;
    unsigned warp_live[32], warp_waiting[32];
    std::vector<unsigned> order;
    void    *dynamic;
    size_t   shared_end;
    std::vector<std::pair<const void *, void *>> shared;        /* declarations met in this block */
    Fibre    scheduler, *running;
    std::vector<Fibre *> idle, waiting;
} &B = *new State();      /* stays when the program ends, stacks and all */

alignas(64) static char slots[32][2][32 * HC_SLOT];

#if defined(__SANITIZE_ADDRESS__)
static const void *main_bottom;         /* of the stack that the scheduler runs on */
static size_t main_size;

static void leave(Fibre *from, Fibre *to)
{
    bool main = to == &B.scheduler;

    __sanitizer_start_switch_fiber(&from->fake, main ? main_bottom : to->stack,
                                   main ? main_size : (size_t)STACK);
}

/* On this stack again, or (fake NULL) for the first time. */
static void arrive(void *fake, bool main)
{
    __sanitizer_finish_switch_fiber(fake, main ? NULL : &main_bottom, main ? NULL : &main_size);
}
#else
static void leave(Fibre *, Fibre *) {}
static void arrive(void *, bool) {}
#endif

static void switch_to(Fibre *from, Fibre *to)
{
    leave(from, to);
    swap(from, to);
    arrive(from->fake, from == &B.scheduler);
}

static void begin(Fibre *f, unsigned index)
{
    HcThread *t = &f->thread;

    t->thread    = dim3(index % B.block.x, index / B.block.x % B.block.y,
                        index / B.block.x / B.block.y);
    t->block     = B.at;
    t->block_dim = B.block;
    t->grid_dim  = B.grid;
    t->index     = index;
    t->lane      = index % 32;
    t->warp      = index / 32;
    t->exchange  = 0;
    hc_now = t;
}

static void fibre(void)
{
    arrive(NULL, false);
    for (;;) {
        Fibre *self = B.running;

        while (B.started < B.threads) {
            begin(self, B.order[B.started++]);
            self->copies.clear();
            self->groups = 0;
            (*B.kernel)();
            B.live--;
            B.warp_live[self->thread.warp]--;
        }
        self->state = Fibre::IDLE;
        switch_to(self, &B.scheduler);
    }
}

static Fibre *fresh(void)
{
    Fibre *f = new Fibre();
    char *memory = (char *)mmap(NULL, STACK + 4096, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED || mprotect(memory, 4096, PROT_NONE))
        hc_die("no memory for stacks");
    f->stack = memory + 4096;
    prepare(f, fibre);
    return f;
}

static void resume(Fibre *f)
{
    B.running = f;
    hc_now = &f->thread;
    f->state = Fibre::READY;
    switch_to(&B.scheduler, f);
    (f->state == Fibre::IDLE ? B.idle : B.waiting).push_back(f);
}

static void wait_as(decltype(Fibre::READY) state)
{
    Fibre *self = B.running;

    self->state = state;
    switch_to(self, &B.scheduler);
}

void hc_barrier(void)
{
    wait_as(Fibre::BARRIER);
}

char *hc_exchange(const void *value, size_t bytes)
{
    HcThread *t = hc_now;
    char *all = slots[t->warp][t->exchange++ & 1];

    if (bytes)
        memcpy(all + t->lane * HC_SLOT, value, bytes);
    if (B.threads % 32 && t->warp == B.threads / 32)
        hc_die("%s: exchange in a warp of %u threads", B.name, B.threads % 32);
    B.warp_waiting[t->warp]++;
    wait_as(Fibre::WARP);
    return all;
}

/* ---- late copies -------------------------------------------------------------------------- */

void hc_copy_async16(void *to, const void *from, bool there)
{
    if ((uintptr_t)to % 16 || (there && (uintptr_t)from % 16))
        hc_die("%s: a copy of 16 bytes at an odd address", B.name);
    B.running->copies.push_back({ to, from, there, B.running->groups });
}

void hc_copy_commit(void) { B.running->groups++; }

void hc_copy_wait(int left)
{
    Fibre *self = B.running;
    std::vector<Copy> later;

    for (const Copy &c : self->copies) {
        if (c.group >= self->groups - left) {
            later.push_back(c);
            continue;
        }
        if (c.there) {
            hc_reads(c.from, 16);
            memcpy(c.to, c.from, 16);
        } else {
            memset(c.to, 0, 16);
        }
        hc_writes(c.to, 16);
    }
    self->copies.swap(later);
}

/* ---- going on ----------------------------------------------------------------------------- */

/* May this one go on? Exchanges need all 32 lanes; barriers everyone who is left. */
static bool released(const Fibre *f, bool all_at_barrier)
{
    if (f->state == Fibre::BARRIER)
        return all_at_barrier;
    return B.warp_waiting[f->thread.warp] == 32;
}

static void release(void)
{
    std::vector<Fibre *> ready, still;
    unsigned at_barrier = 0;

    for (Fibre *f : B.waiting)
        at_barrier += f->state == Fibre::BARRIER;
    for (Fibre *f : B.waiting)
        (released(f, at_barrier == B.live) ? ready : still).push_back(f);
    if (ready.empty())
        hc_die("%s: block %u,%u,%u waits for ever: %u threads live, %u at a barrier, thread %u of "
               "warp %u at an exchange", B.name, B.at.x, B.at.y, B.at.z, B.live, at_barrier,
               still[0]->thread.lane, still[0]->thread.warp);
    if (at_barrier == B.live)
        hc_new_phase();
    for (Fibre *f : ready)
        if (f->state == Fibre::WARP)
            B.warp_waiting[f->thread.warp] = 0;
    B.waiting.swap(still);
    for (Fibre *f : ready)
        resume(f);
}

static void run_block(size_t bytes)
{
    B.started = 0;
    B.live = B.threads;
    B.shared.clear();
    hc_new_phase();
    for (unsigned w = 0; w < 32; w++) {
        B.warp_waiting[w] = 0;
        B.warp_live[w] =
            B.threads > 32 * w ? (B.threads - 32 * w < 32 ? B.threads - 32 * w : 32) : 0;
    }
    B.dynamic = bytes ? hc_shared_room(0, bytes) : NULL;
    B.shared_end = bytes;
    while (B.started < B.threads) {
        if (B.idle.empty())
            B.idle.push_back(fresh());
        Fibre *f = B.idle.back();
        B.idle.pop_back();
        resume(f);
    }
    while (!B.waiting.empty())
        release();
}

static void choose_order(void)
{
    const char *how = getenv("AD_HOST_ORDER");
    unsigned random = 12345;

    B.order.resize(B.threads);
    for (unsigned i = 0; i < B.threads; i++)
        B.order[i] = how && !strcmp(how, "backward") ? B.threads - 1 - i : i;
    for (unsigned i = B.threads - 1; how && !strcmp(how, "shuffled") && i > 0; i--) {
        random = random * 1664525 + 1013904223;
        std::swap(B.order[i], B.order[(random >> 8) % (i + 1)]);
    }
}

void *hc_dynamic_shared(void)
{
    return B.dynamic;
}

void *hc_static_shared(const void *site, size_t bytes)
{
    size_t at = (B.shared_end + 1023) / 512 * 512;      /* a gap that nobody may touch */

    for (const auto &known : B.shared)
        if (known.first == site)
            return known.second;
    B.shared.push_back({ site, hc_shared_room(at, bytes) });
    B.shared_end = at + bytes;
    return B.shared.back().second;
}

const char *hc_kernel_name(void) { return B.name; }

void hc_run_kernel(const char *name, dim3 grid, dim3 block, size_t bytes,
                   const std::function<void()> &kernel)
{
    std::lock_guard<std::mutex> lock(one_launch);

    B.kernel  = &kernel;
    B.name    = name;
    B.grid    = grid;
    B.block   = block;
    B.threads = block.x * block.y * block.z;
    choose_order();
    hc_shared_clear();
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                B.at = dim3(x, y, z);
                run_block(bytes);
            }
    hc_now = NULL;
}
