/* A worker that writes as fast as its standard output takes it.
 *
 *     flood FIFO GATE BYTES AT_A_TIME
 *
 * Says that it began, waits until somebody opens GATE for writing, writes lines of 100 bytes, AT_A_TIME
 * bytes a write, until at least BYTES are written and a line ends, and says when it is done. As with a
 * buffered standard output, a write may end inside a line. Every line carries who wrote it and its
 * number, so that a lost or torn one is found.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 100, MOST = 8192 };

struct record { /* as in worker.c */
    int32_t pid;
    int32_t kind; /* 'B' began, 'D' done */
    int64_t nanoseconds;
};

static void report(int fifo, int kind)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct record record = {getpid(), kind, now.tv_sec * 1000000000LL + now.tv_nsec};
    if (write(fifo, &record, sizeof record) < 0) _exit(74);
}

/* By hand: snprintf would cost more than the write. */
static void number(char *place, unsigned long value, int digits)
{
    while (digits--) place[digits] = (char)('0' + value % 10), value /= 10;
}

int main(int argc, char **argv)
{
    static char block[MOST * LINE];
    if (argc < 5) return 64;
    int fifo = open(argv[1], O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    long total = atol(argv[3]), size = atol(argv[4]);
    if (fifo < 0 || size < 1 || size > MOST) return 64;
    long whole = size * LINE; /* as many bytes as hold only whole lines and whole writes */
    memset(block, 'x', sizeof block);
    for (long at = 0; at < whole; at += LINE) {
        number(block + at, (unsigned long)getpid(), 8);
        block[at + 8] = ' ';
        block[at + 19] = ' ';
        block[at + LINE - 1] = '\n';
    }
    report(fifo, 'B');
    int gate = open(argv[2], O_RDONLY | O_CLOEXEC);
    if (gate < 0) return 66;
    unsigned long line = 0;
    for (; total > 0; total -= whole) {
        for (long at = 0; at < whole; at += LINE) number(block + at + 9, line++, 10);
        for (long done = 0; done < whole;) {
            long left = size - done % size;
            long written = write(1, block + done, (size_t)left);
            if (written <= 0) return 74;
            done += written;
        }
    }
    report(fifo, 'D');
    for (;;) pause();
}
