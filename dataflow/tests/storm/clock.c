/*
 * LD_PRELOAD: a wall clock that a test steps while the program runs.
 *
 * The file that TIDEMARK_TEST_CLOCK names holds one int64_t: how many microseconds the wall clock is ahead of the machine's. Only
 * CLOCK_REALTIME is shifted; monotonic clocks go on. A wait for an instant of the wall clock sees each step, as it does in the kernel.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
/* An instant before 2001 is one of a clock that began with the machine. */
#define FIRST_OF_THE_WALL_CLOCK 1000000000LL
/* How often a wait looks whether the clock was stepped. */
#define LOOK (50 * 1000000LL)

static const volatile int64_t never_stepped = 0;
static const volatile int64_t *ahead;

static int64_t ahead_nanos(void)
{
    const volatile int64_t *at = __atomic_load_n(&ahead, __ATOMIC_ACQUIRE);
    if (at == NULL) {
        const char *path = getenv("TIDEMARK_TEST_CLOCK");
        int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
        if (file >= 0)
            close(file);
        at = map == MAP_FAILED ? &never_stepped : map;
        __atomic_store_n(&ahead, at, __ATOMIC_RELEASE);
    }
    return *at * 1000;
}

static struct timespec moved(struct timespec at, int64_t nanos)
{
    int64_t all = at.tv_sec * SECOND + at.tv_nsec + nanos;
    struct timespec result = {all / SECOND, all % SECOND};
    return result;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (syscall(SYS_clock_gettime, clock, now) != 0)
        return -1;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        *now = moved(*now, ahead_nanos());
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec at;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &at);
    now->tv_sec = at.tv_sec;
    now->tv_usec = at.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (now != NULL)
        *now = at.tv_sec;
    return at.tv_sec;
}

int timespec_get(struct timespec *now, int base)
{
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

/* Waits for a moment and then says that it was woken without a reason, which every caller must expect, until its instant is there. */
int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex, const struct timespec *restrict until)
{
    struct timespec now, look;
    int result;
    if (until->tv_sec < FIRST_OF_THE_WALL_CLOCK)
        return pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, until);
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t left = (until->tv_sec - now.tv_sec) * SECOND + until->tv_nsec - now.tv_nsec;
    if (left < 0)
        left = 0;
    clock_gettime(CLOCK_MONOTONIC, &look);
    look = moved(look, left < LOOK ? left : LOOK);
    result = pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, &look);
    return result == ETIMEDOUT && left > LOOK ? 0 : result;
}

/* librdkafka waits by this one. glibc's are the same types by other names. */
int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until)
{
    int result = pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until);
    return result == 0 ? thrd_success : result == ETIMEDOUT ? thrd_timedout : thrd_error;
}
