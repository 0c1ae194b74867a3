/* host_memory.cpp - device, pinned and shared memory of the stand-in, and who may touch it how.
 *
 * All of it lies in one range of addresses with a shadow: a byte is nobody's, unwritten or written.
 * Kernels are compiled with -fsanitize=thread, which calls a function at every access, but linked
 * with the functions here instead of that library: they end the program at a byte that is nobody's,
 * at reading an unwritten one, and where two threads touch shared memory without a barrier between.
 * Under the address sanitizer, which excludes that, the bytes around allocations are poisoned.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <map>
#include <mutex>
#include <sys/mman.h>

#include "cuda_runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
enum { least_read = 1 };        /* kernels write unseen: UNWRITTEN tells nothing */
#else
enum { least_read = 2 };
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum { NOBODYS, UNWRITTEN, WRITTEN };
enum { GUARD = 256 };

static const size_t range = (size_t)16 << 30;
static char    *base;           /* shared memory first, then what is allocated */
static uint8_t *shadow;

static std::mutex lock;
struct Held { size_t bytes; HcKind kind; };
static std::map<size_t, Held> held;         /* by offset */
static size_t held_bytes[3];

static void *map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    if (p == MAP_FAILED)
        hc_die("no addresses for the device's memory");
    return p;
}

static void prepare(void)
{
    if (!base) {
        shadow = (uint8_t *)map(range);
        base   = (char *)map(range);
    }
}

/* ---- allocations -------------------------------------------------------------------------- */

/* The lowest gap for `bytes` and guards on both sides. */
static size_t find_gap(size_t bytes)
{
    size_t at = HC_SHARED + GUARD;

    for (const auto &h : held) {
        if (h.first - at >= bytes + GUARD)
            break;
        at = (h.first + h.second.bytes + GUARD + GUARD - 1) / GUARD * GUARD;
    }
    return at;
}

/* Full of ones: not a number, in any type. Pinned memory is the host's too, which writes unseen. */
void *hc_take(HcKind kind, size_t bytes)
{
    std::lock_guard<std::mutex> hold(lock);
    size_t at, end;

    prepare();
    at  = find_gap(bytes);
    end = (at + bytes + GUARD - 1) / GUARD * GUARD + GUARD;
    if (bytes > range || end > range)
        return NULL;
    ASAN_UNPOISON_MEMORY_REGION(base + at, bytes);
    memset(base + at, 0xff, bytes);
    ASAN_POISON_MEMORY_REGION(base + at - GUARD, GUARD);
    ASAN_POISON_MEMORY_REGION(base + at + bytes, end - at - bytes);
    memset(shadow + at, kind == HC_PINNED ? WRITTEN : UNWRITTEN, bytes);
    held[at] = Held{ bytes, kind };
    held_bytes[kind] += bytes;
    return base + at;
}

size_t hc_give_back(HcKind kind, void *p)
{
    std::lock_guard<std::mutex> hold(lock);
    auto it = held.find((size_t)((char *)p - base));
    size_t bytes;

    if (it == held.end() || it->second.kind != kind)
        hc_die("freed, but never allocated: %p", p);
    bytes = it->second.bytes;
    memset(shadow + it->first, NOBODYS, bytes);
    madvise(base + (it->first + 4095) / 4096 * 4096, bytes / 4096 * 4096, MADV_DONTNEED);
    ASAN_POISON_MEMORY_REGION(p, bytes);
    held.erase(it);
    held_bytes[kind] -= bytes;
    return bytes;
}

void hc_give_back_all(void)
{
    while (!held.empty())
        hc_give_back(held.begin()->second.kind, base + held.begin()->first);
}

size_t hc_held(HcKind kind)
{
    std::lock_guard<std::mutex> hold(lock);

    return held_bytes[kind];
}

static bool inside(HcKind kind, const void *p, size_t bytes)
{
    std::lock_guard<std::mutex> hold(lock);
    size_t at = (size_t)((const char *)p - base);
    auto it = held.upper_bound(at);

    if (it == held.begin())
        return false;
    --it;
    return it->second.kind == kind && at + bytes <= it->first + it->second.bytes;
}

bool hc_on_device(const void *p, size_t bytes) { return inside(HC_DEVICE, p, bytes); }
bool hc_pinned(const void *p, size_t bytes)    { return inside(HC_PINNED, p, bytes); }

/* ---- what is wrong ------------------------------------------------------------------------ */

[[noreturn]] static void wrong(size_t at, size_t bytes, const char *how)
{
    HcThread *t = hc_now;
    long far = 0;
    size_t size = 0;

    for (const auto &h : held)
        if (h.first <= at + GUARD) {
            far  = (long)(at - h.first);
            size = h.second.bytes;
        }
    if (!t)
        hc_die("%zu bytes %s: byte %ld of an allocation of %zu", bytes, how, far, size);
    if (at < HC_SHARED)
        hc_die("%s: thread %u of block %u,%u,%u: %zu bytes %s: byte %zu of shared memory",
               hc_kernel_name(), t->index, t->block.x, t->block.y, t->block.z, bytes, how, at);
    hc_die("%s: thread %u of block %u,%u,%u: %zu bytes %s: byte %ld of an allocation of %zu",
           hc_kernel_name(), t->index, t->block.x, t->block.y, t->block.z, bytes, how, far, size);
}

/* ---- threads and shared memory ------------------------------------------------------------ */

/* Who touched two bytes of shared memory last. Two threads are in order when a barrier, or in one
 * warp an exchange, lies between. */
struct Touch {
    uint32_t write_phase, read_phase;
    uint32_t write_exchange, read_exchange;
    uint16_t writer, reader;                /* indices of threads; reader: one of perhaps many */
    bool     warps, lanes;                  /* readers of several warps, of one warp several */
};

static Touch touches[HC_SHARED / 2];
static uint32_t phase;

void hc_new_phase(void) { phase++; }

static bool in_order(unsigned other, unsigned exchange, const HcThread *t)
{
    return other == t->index || (other / 32 == t->warp && exchange < t->exchange);
}

static void reads_shared(size_t at, size_t bytes, const HcThread *t)
{
    for (size_t i = at / 2; i <= (at + bytes - 1) / 2; i++) {
        Touch *c = &touches[i];

        if (c->write_phase != phase && c->read_phase == phase && c->warps)
            continue;                       /* nothing new to know */
        if (c->write_phase == phase && !in_order(c->writer, c->write_exchange, t))
            wrong(at, bytes, "read while another thread writes");
        if (c->read_phase != phase) {
            c->warps = c->lanes = false;
        } else if (c->reader != t->index) {
            c->warps |= c->reader / 32 != t->warp;
            c->lanes = true;
        }
        c->read_phase = phase;
        c->reader = (uint16_t)t->index;
        c->read_exchange = t->exchange;
    }
}

static void writes_shared(size_t at, size_t bytes, const HcThread *t)
{
    for (size_t i = at / 2; i <= (at + bytes - 1) / 2; i++) {
        Touch *c = &touches[i];

        if (c->write_phase == phase && !in_order(c->writer, c->write_exchange, t))
            wrong(at, bytes, "written while another thread writes");
        if (c->read_phase == phase &&
            (c->warps || !in_order(c->reader, c->read_exchange, t) ||
             (c->lanes && c->read_exchange >= t->exchange)))
            wrong(at, bytes, "written while another thread reads");
        c->write_phase = phase;
        c->writer = (uint16_t)t->index;
        c->write_exchange = t->exchange;
    }
}

void *hc_shared_room(size_t offset, size_t bytes)
{
    prepare();
    if (offset + bytes + GUARD > HC_SHARED)
        hc_die("%s: %zu bytes of shared memory behind %zu", hc_kernel_name(), bytes, offset);
    ASAN_UNPOISON_MEMORY_REGION(base + offset, bytes);
    memset(base + offset, 0xff, bytes);
    ASAN_POISON_MEMORY_REGION(base + offset + bytes, GUARD);
    memset(shadow + offset, UNWRITTEN, bytes);
    memset(shadow + offset + bytes, NOBODYS, GUARD);
    return base + offset;
}

void hc_shared_clear(void)
{
    prepare();
    memset(shadow, NOBODYS, HC_SHARED);
}

/* ---- accesses ----------------------------------------------------------------------------- */

static void reads(size_t at, size_t bytes)
{
    for (size_t i = at; i < at + bytes; i++)
        if (shadow[i] < (hc_dry ? (int)UNWRITTEN : (int)least_read))
            wrong(at, bytes, shadow[i] == UNWRITTEN ? "read and never written" : "read outside");
    if (at < HC_SHARED && hc_now)
        reads_shared(at, bytes, hc_now);
}

static void writes(size_t at, size_t bytes)
{
    for (size_t i = at; i < at + bytes; i++)
        if (shadow[i] == NOBODYS)
            wrong(at, bytes, "written outside");
    if (at < HC_SHARED && hc_now)
        writes_shared(at, bytes, hc_now);
    memset(shadow + at, WRITTEN, bytes);
}

void hc_reads(const void *p, size_t bytes)  { reads((size_t)((const char *)p - base), bytes); }
void hc_writes(const void *p, size_t bytes) { writes((size_t)((const char *)p - base), bytes); }

void hc_forget(void *p, size_t bytes)
{
    size_t at = (size_t)((char *)p - base);

    for (size_t i = at; at < range && i < at + bytes; i++)
        shadow[i] = shadow[i] == WRITTEN ? (uint8_t)UNWRITTEN : shadow[i];
}

#if !defined(__SANITIZE_ADDRESS__)

/* The quick answer for most accesses. */
template <int BYTES> static inline bool all_written(size_t at)
{
    static const uint8_t want[16] = { 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2 };

    static_assert(WRITTEN == 2, "the numbers above");
    return !memcmp(shadow + at, want, BYTES);
}

/* What the compiler calls. Addresses elsewhere, stacks and arguments, are not looked at. */
extern "C" {
#define ACCESS(name, bytes, what)                                                       \
    void name(void *p) { size_t at = (size_t)((char *)p - base);                        \
                         if (at < range && (at < HC_SHARED || !all_written<bytes>(at))) \
                             what(at, bytes); }
#define RANGE(name, what)                                                               \
    void name(void *p, size_t bytes) { size_t at = (size_t)((char *)p - base);          \
                                       if (at < range && bytes) what(at, bytes); }
ACCESS(__tsan_read1, 1, reads)
ACCESS(__tsan_read2, 2, reads)
ACCESS(__tsan_read4, 4, reads)
ACCESS(__tsan_read8, 8, reads)
ACCESS(__tsan_read16, 16, reads)
ACCESS(__tsan_write1, 1, writes)
ACCESS(__tsan_write2, 2, writes)
ACCESS(__tsan_write4, 4, writes)
ACCESS(__tsan_write8, 8, writes)
ACCESS(__tsan_write16, 16, writes)
RANGE(__tsan_read_range, reads)
RANGE(__tsan_write_range, writes)
void __tsan_init(void) {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit(void) {}
void __tsan_vptr_update(void *, void *) {}
void __tsan_vptr_read(void *) {}
}

#endif
