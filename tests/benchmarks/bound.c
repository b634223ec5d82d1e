/* The lower bound: the least that a supervisor of one program can do, in C.
 *
 *     bound COUNT GRACE_MILLISECONDS DESCRIPTORS UID:GID PROGRAM ARGUMENT...
 *
 * With a limit of 0, or a uid of 0, its own is kept.
 *
 * Keeps COUNT copies alive: one that ends is replaced at once. SIGTERM or SIGINT ends it: SIGTERM to
 * all, and SIGKILL to who is left when the grace window is over. It reads no configuration, keeps no
 * log, captures no output, answers nobody and knows no backoff: what a real supervisor needs beyond
 * these numbers is the price of what it does for its users.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

enum { BATCH = 64, SIGNALS = -1, TIMER = -2 };

struct slot {
    pid_t pid;
    int pidfd; /* -1 while empty */
};

static struct slot *slots;
static int count, living, ending;
static int epoll;
static char **command;
static sigset_t unblocked;
static struct rlimit limit;
static unsigned uid, gid;

static void fail(const char *what)
{
    fprintf(stderr, "bound: cannot %s: %s\n", what, strerror(errno));
    exit(71);
}

static void watch(int descriptor, int data)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = data};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) < 0) fail("watch a descriptor");
}

/* vfork lends our address space to the child until it execs: no page table is copied, which is most
 * of what fork costs. We stand still meanwhile, so pid and error need no pipe to come back. The price
 * that stays is the copy of the descriptor table, which grows with the number of pidfds. */
static void spawn(int index)
{
    volatile int failure = 0;
    pid_t pid = vfork();
    if (pid == 0) {
        /* signalfd needs its signals blocked, and a blocked mask survives execve. */
        sigprocmask(SIG_SETMASK, &unblocked, NULL);
        setsid();
        if (limit.rlim_max) setrlimit(RLIMIT_NOFILE, &limit);
        /* The bare calls: those of the library talk to the threads of the process that it thinks it is in. */
        if (uid && (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setgid, gid) < 0
                    || syscall(SYS_setuid, uid) < 0))
            _exit(126);
        execv(command[0], command);
        failure = errno;
        _exit(127);
    }
    if (pid < 0 || failure) {
        if (failure) errno = failure;
        fail("start the program");
    }
    /* The child cannot be reaped by anybody else, so its pid cannot have been given away yet. */
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) fail("open a pidfd");
    slots[index].pid = pid;
    slots[index].pidfd = pidfd;
    living++;
    watch(pidfd, index);
}

/* A pidfd is readable as soon as its process is a zombie. Closing it takes it out of the epoll set,
 * because it is the only descriptor of its file. */
static void reap(int index)
{
    siginfo_t information;
    if (waitid(P_PIDFD, (id_t)slots[index].pidfd, &information, WEXITED | WNOHANG) < 0) fail("reap");
    close(slots[index].pidfd);
    slots[index].pidfd = -1;
    living--;
    if (!ending) spawn(index);
}

/* By pidfd: a signal can never reach a stranger who was given the number since. */
static void signal_all(int number)
{
    for (int index = 0; index < count; index++)
        if (slots[index].pidfd >= 0) syscall(SYS_pidfd_send_signal, slots[index].pidfd, number, NULL, 0);
}

static void begin_to_end(int timer, long milliseconds)
{
    struct itimerspec window = {.it_value = {milliseconds / 1000, milliseconds % 1000 * 1000000}};
    ending = 1;
    if (timerfd_settime(timer, 0, &window, NULL) < 0) fail("set the timer");
    signal_all(SIGTERM);
}

int main(int argc, char **argv)
{
    if (argc < 6 || sscanf(argv[4], "%u:%u", &uid, &gid) != 2) {
        fprintf(stderr, "usage: bound COUNT GRACE_MILLISECONDS DESCRIPTORS UID:GID PROGRAM ARGUMENT...\n");
        return 64;
    }
    count = atoi(argv[1]);
    long grace = atol(argv[2]);
    limit.rlim_cur = limit.rlim_max = (rlim_t)atol(argv[3]);
    command = argv + 5;

    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    sigset_t ours;
    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGINT);
    sigprocmask(SIG_BLOCK, &ours, &unblocked);
    int signals = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    slots = calloc((size_t)count + 1, sizeof *slots);
    if (signals < 0 || timer < 0 || epoll < 0 || !slots) fail("begin");
    watch(signals, SIGNALS);
    watch(timer, TIMER);
    for (int index = 0; index < count; index++) spawn(index);

    while (!ending || living) {
        struct epoll_event events[BATCH];
        int found = epoll_wait(epoll, events, BATCH, -1);
        if (found < 0 && errno != EINTR) fail("wait");
        /* A slot comes once in a batch, so a descriptor number that is used again within the batch
         * can not be taken for the one that it was before. */
        for (int which = 0; which < found; which++) {
            int data = events[which].data.fd;
            if (data == SIGNALS) {
                struct signalfd_siginfo information;
                if (read(signals, &information, sizeof information) > 0 && !ending)
                    begin_to_end(timer, grace);
            } else if (data == TIMER) {
                uint64_t times;
                if (read(timer, &times, sizeof times) > 0) signal_all(SIGKILL);
            } else {
                reap(data);
            }
        }
    }
    return 0;
}
