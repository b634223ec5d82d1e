/* A worker with two children that it never waits for: one in its process group, one in a session of its own.
 *
 *     family FIFO          all three die of SIGTERM as any program does that does not care
 *     family FIFO obey     the worker catches SIGTERM and exits in order; of its children it thinks no more
 *
 * Their pids are said in one write.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

struct record { /* as in worker.c */
    int32_t pid;
    int32_t kind; /* 'B' the worker, 'G' the child in its group, 'S' the one in its own session */
    int64_t nanoseconds;
};

static int32_t child(int session)
{
    int ready[2];
    char byte;
    if (pipe(ready) < 0) _exit(71);
    pid_t pid = fork();
    if (pid == 0) {
        if (session) setsid();
        close(ready[0]);
        close(ready[1]);
        for (;;) pause();
    }
    close(ready[1]);
    /* End of file: the child has its session. */
    if (pid < 0 || read(ready[0], &byte, 1) != 0) _exit(71);
    close(ready[0]);
    return pid;
}

static void obey(int number)
{
    (void)number;
    _exit(0);
}

int main(int argc, char **argv)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (argc < 2) return 64;
    int fifo = open(argv[1], O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    int64_t when = now.tv_sec * 1000000000LL + now.tv_nsec;
    int32_t group = child(0), session = child(1);
    /* After the children are made, who would inherit it; before anybody knows that we are there. */
    if (argc > 2) signal(SIGTERM, obey);
    struct record records[] = {{getpid(), 'B', when}, {group, 'G', when}, {session, 'S', when}};
    if (fifo < 0 || write(fifo, records, sizeof records) < 0) return 74;
    close(fifo);
    for (;;) pause();
}
