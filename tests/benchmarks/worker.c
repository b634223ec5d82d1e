/* The worker of every subject: says when it began, then does nothing.
 *
 *     worker FIFO          begins, and dies of SIGTERM as any program does that does not care
 *     worker FIFO hang     says when SIGTERM came, and stays
 *     worker FIFO crowd P  writes without end if it is one of the first hundred to make a file P0 … P99,
 *                          from when somebody opens the FIFO Pgate for writing
 *
 * Its first act is to read the clock: what comes before that is the supervisor's and the kernel's time.
 * Built static, so that the dynamic linker is no part of any number.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct record { /* 16 bytes; written whole, because it is shorter than PIPE_BUF */
    int32_t pid;
    int32_t kind; /* 'B' began, 'L' began and is loud, 'T' got SIGTERM */
    int64_t nanoseconds; /* CLOCK_MONOTONIC */
};

static int fifo;

enum { LINES = 4000 };

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

/* All subjects run one program with the same words, so who is loud is settled among the workers. */
static int is_loud(const char *prefix)
{
    char path[256];
    for (int index = 0; index < 100; index++) {
        snprintf(path, sizeof path, "%s%d", prefix, index);
        int made = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (made >= 0) return close(made), 1;
    }
    return 0;
}

static void await(const char *prefix)
{
    char path[256];
    snprintf(path, sizeof path, "%sgate", prefix);
    int gate = open(path, O_RDONLY | O_CLOEXEC);
    if (gate >= 0) close(gate);
}

static const char *lines(void)
{
    static char block[LINES];
    if (!block[0]) {
        memset(block, 'x', sizeof block);
        for (int at = 99; at < LINES; at += 100) block[at] = '\n';
    }
    return block;
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
    int loud = argc > 3 && strcmp(argv[2], "crowd") == 0 && is_loud(argv[3]);
    fifo = open(argv[1], O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    struct record record = {getpid(), loud ? 'L' : 'B', now.tv_sec * 1000000000LL + now.tv_nsec};
    if (fifo >= 0 && write(fifo, &record, sizeof record) < 0) return 74;
    if (!hang && fifo >= 0) close(fifo);
    if (loud) await(argv[3]);
    while (loud && write(1, lines(), LINES) > 0) { }
    for (;;) pause();
}
