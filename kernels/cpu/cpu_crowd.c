/* cpu_crowd.c - threads that only sleep, so that the others do not spin.
 *
 * Called by cpu_backend.c when a device is opened and closed. libgomp's threads spin at a barrier
 * for milliseconds before they sleep, which is right while every thread has a processor to itself.
 * Beside other programs the thread that is waited for often has none, and the ones that wait take
 * it away: a clip then takes forty times as long. With more threads than processors libgomp spins
 * for microseconds only (a thousand rounds), and that costs nothing when the machine is idle. It
 * counts all of its threads, asleep or not: so one more team of two is made and put to sleep. The
 * ordinary switch, OMP_WAIT_POLICY, is read before a library can set it, and the environment is not
 * ours to change.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <omp.h>
#include <pthread.h>
#include <signal.h>

#include "cpu_crowd.h"

struct AdCpuCrowd {
    pthread_t       thread;
    pthread_mutex_t lock;
    pthread_cond_t  change;
    int             asleep;
    bool            over;
};

static void *sleep_together(void *opaque)
{
    AdCpuCrowd *crowd = opaque;

#pragma omp parallel num_threads(2)
    {
        pthread_mutex_lock(&crowd->lock);
        crowd->asleep++;
        pthread_cond_broadcast(&crowd->change);
        while (!crowd->over)
            pthread_cond_wait(&crowd->change, &crowd->lock);
        pthread_mutex_unlock(&crowd->lock);
    }
    return NULL;
}

/* Signals are for the program's own threads: the crowd inherits that all are blocked. */
static bool start(AdCpuCrowd *crowd)
{
    sigset_t all, before;
    int failed;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&crowd->thread, NULL, sleep_together, crowd);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return !failed;
}

AdCpuCrowd *ad_cpu_crowd_create(void)
{
    AdCpuCrowd *crowd = ad_alloc(sizeof(*crowd));

    if (!crowd)
        return NULL;
    pthread_mutex_init(&crowd->lock, NULL);
    pthread_cond_init(&crowd->change, NULL);
    if (!start(crowd)) {
        pthread_cond_destroy(&crowd->change);
        pthread_mutex_destroy(&crowd->lock);
        ad_free(crowd);
        return NULL;
    }
    pthread_mutex_lock(&crowd->lock);
    while (!crowd->asleep)
        pthread_cond_wait(&crowd->change, &crowd->lock);
    pthread_mutex_unlock(&crowd->lock);
    return crowd;
}

void ad_cpu_crowd_destroy(AdCpuCrowd **handle)
{
    AdCpuCrowd *crowd = *handle;

    *handle = NULL;
    if (!crowd)
        return;
    pthread_mutex_lock(&crowd->lock);
    crowd->over = true;
    pthread_cond_broadcast(&crowd->change);
    pthread_mutex_unlock(&crowd->lock);
    pthread_join(crowd->thread, NULL);
    pthread_cond_destroy(&crowd->change);
    pthread_mutex_destroy(&crowd->lock);
    ad_free(crowd);
}
