/* What the tests of the OCI runtime ask of the kernel where a shell has no word for it. One command, one line. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

static long number(const char *text) { return (long)strtoull(text, NULL, 0); }

static int told(long result) {
    if (result < 0)
        printf("%s\n", strerrorname_np(errno));
    else
        printf("%ld\n", result);
    return 0;
}

/* syscall NUMBER [ARGUMENT...]: the result, or the name of the error */
static int call(int count, char **words) {
    long a[6] = {0};
    for (int i = 1; i < count && i < 7; i++)
        a[i - 1] = number(words[i]);
    return told(syscall(number(words[0]), a[0], a[1], a[2], a[3], a[4], a[5]));
}

#ifdef __x86_64__
/* syscall32 NUMBER: through the 32-bit entry */
static int call32(char **words) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number(words[0])), "b"(0L), "c"(0L), "d"(0L) : "memory", "r8", "r9", "r10", "r11");
    if ((int)result < 0) {
        errno = -(int)result;
        result = -1;
    }
    return told((int)result);
}
#endif

static int scheduler(void) {
    struct attributes at = {.size = sizeof(at)};
    if (syscall(SYS_sched_getattr, 0, &at, sizeof(at), 0) != 0)
        return told(-1);
    printf("policy=%u nice=%d priority=%u flags=%llu runtime=%llu deadline=%llu period=%llu\n", at.policy, at.nice,
           at.priority, (unsigned long long)at.flags, (unsigned long long)at.runtime, (unsigned long long)at.deadline,
           (unsigned long long)at.period);
    return 0;
}

static int io_priority(void) {
    long value = syscall(SYS_ioprio_get, 1, 0);
    printf("class=%ld level=%ld\n", value >> 13, value & 7);
    return 0;
}

static int memory_policy(void) {
    int mode = -1;
    unsigned long nodes[16] = {0};
    if (syscall(SYS_get_mempolicy, &mode, nodes, sizeof(nodes) * 8, 0, 0) != 0)
        return told(-1);
    printf("mode=%d flags=%#x nodes=%lu\n", mode & 0xfff, mode & ~0xfff, nodes[0]);
    return 0;
}

static int limit(char **words) {
    struct rlimit value;
    if (getrlimit(number(words[0]), &value) != 0)
        return told(-1);
    printf("%llu %llu\n", (unsigned long long)value.rlim_cur, (unsigned long long)value.rlim_max);
    return 0;
}

static int clocks(void) {
    struct timespec monotonic, boot;
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    printf("monotonic=%lld boottime=%lld\n", (long long)monotonic.tv_sec, (long long)boot.tv_sec);
    return 0;
}

/* open PATH: whether a device answers at all */
static int try_open(char **words) {
    int fd = open(words[0], O_RDONLY | O_NONBLOCK | O_NOCTTY);
    return told(fd < 0 ? -1 : 0);
}

/* controlling: whether standard input is the terminal that controls the session, and the process leads it */
static int controlling(void) {
    printf("%s%s\n", tcgetsid(0) == getsid(0) ? "yes" : "no", getsid(0) == getpid() ? " leader" : "");
    return 0;
}

/* ignored: signals that are ignored or blocked though nobody said so */
static int ignored(void) {
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    for (int i = 1; i < 65; i++) {
        struct sigaction now;
        if (sigaction(i, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
            printf("ignored %d\n", i);
        if (sigismember(&blocked, i) == 1)
            printf("blocked %d\n", i);
    }
    return 0;
}

int main(int count, char **words) {
    if (count < 2)
        return 2;
    const char *what = words[1];
    if (count > 2 && !strcmp(what, "syscall")) return call(count - 2, words + 2);
#ifdef __x86_64__
    if (count > 2 && !strcmp(what, "syscall32")) return call32(words + 2);
#endif
    if (!strcmp(what, "scheduler")) return scheduler();
    if (!strcmp(what, "ioprio")) return io_priority();
    if (!strcmp(what, "mempolicy")) return memory_policy();
    if (count > 2 && !strcmp(what, "limit")) return limit(words + 2);
    if (!strcmp(what, "clocks")) return clocks();
    if (count > 2 && !strcmp(what, "open")) return try_open(words + 2);
    if (!strcmp(what, "controlling")) return controlling();
    if (!strcmp(what, "ignored")) return ignored();
    return 2;
}
