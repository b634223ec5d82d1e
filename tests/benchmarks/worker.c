/* The worker of every subject: says when it began, then does nothing.
 *
 *     worker FIFO          begins, and dies of SIGTERM as any program does that does not care
 *     worker FIFO hang     says when SIGTERM came, and stays
 *
 * Its first act is to read the clock: what comes before that is the supervisor's and the kernel's time.
 * Built static, so that the dynamic linker is no part of any number.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct record { /* 16 bytes; written whole, because it is shorter than PIPE_BUF */
    int32_t pid;
    int32_t kind; /* 'B' began, 'T' got SIGTERM */
    int64_t nanoseconds; /* CLOCK_MONOTONIC */
};

static int fifo;

static void report(int kind)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct record record = {getpid(), kind, now.tv_sec * 1000000000LL + now.tv_nsec};
    if (fifo >= 0 && write(fifo, &record, sizeof record) < 0) { /* nobody reads any more: no matter */ }
}

static void stay(int number)
{
    (void)number;
    report('T');
}

int main(int argc, char **argv)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (argc < 2) return 64;
    int hang = argc > 2 && strcmp(argv[2], "hang") == 0;
    /* The handler stands before the record: who has read the record may send the signal. */
    if (hang) signal(SIGTERM, stay);
    /* Non-blocking: without a reader the open fails, instead of holding the worker for ever. */
    fifo = open(argv[1], O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    struct record record = {getpid(), 'B', now.tv_sec * 1000000000LL + now.tv_nsec};
    if (fifo >= 0 && write(fifo, &record, sizeof record) < 0) return 74;
    if (!hang && fifo >= 0) close(fifo);
    for (;;) pause();
}
