/* An HTTP client that keeps a unix socket busy, and knows how long each answer took.
 *
 *     client SOCKET CONNECTIONS RATE SECONDS REQUEST...
 *
 * With RATE 0 each connection asks again as soon as it is answered. Else so many requests fall due a
 * second, each is asked by the next idle connection, and an answer's time counts from when its request
 * was due: who is made to wait does not ask less. The requests, whole as they are sent, take turns.
 *
 * Ends after SECONDS, or with 0 when it gets SIGTERM; asks nothing new then, and waits for the answers that
 * are missing. Prints on one line: answers, failed requests, seconds, and of the answers the median, the
 * 99th percentile and the slowest, in milliseconds. A failed request is a connection that was refused or
 * cut off, an answer that came not within ten seconds or was not of status 2xx. Parses nothing else of it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64, HEAD = 4096, PIECE = 1 << 18, SIGNALS = -1, DUE = -2, END = -3, PATIENCE = 10 };

struct connection {
    int descriptor; /* -1 while closed */
    int busy, closes;
    double since; /* when its request was due */
    long missing; /* of the body; -1 while the head is not whole */
    size_t length; /* of what there is of the head */
    char head[HEAD + 1];
};

static struct connection all[MOST];
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static char **requests;
static int epoll, connections, kinds, ending, busy;
static long asked, failed, answers, room;
static double rate, began, *times;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    fprintf(stderr, "client: cannot %s: %s\n", what, strerror(errno));
    exit(71);
}

static void watch(int descriptor, int data)
{
    /* Once for each signal and each end of time, which nobody reads. */
    int edge = data == SIGNALS || data == END ? EPOLLET : 0;
    struct epoll_event event = {.events = EPOLLIN | (uint32_t)edge, .data.fd = data};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) < 0) fail("watch a descriptor");
}

static void leave(struct connection *one)
{
    if (one->descriptor >= 0) close(one->descriptor);
    one->descriptor = -1;
}

static void settle(struct connection *one)
{
    one->busy = 0;
    busy--;
}

static void lose(struct connection *one)
{
    leave(one);
    settle(one);
    failed++;
}

/* Blocking: a unix socket takes a connection at once unless its queue is full, and then waiting is
 * what a client does. */
static int join(struct connection *one)
{
    struct timeval patience = {.tv_sec = PATIENCE};
    one->descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (one->descriptor < 0) fail("make a socket");
    setsockopt(one->descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(one->descriptor, (struct sockaddr *)&address, sizeof address) < 0) return 0;
    watch(one->descriptor, (int)(one - all));
    return 1;
}

static void ask(struct connection *one, double since)
{
    const char *request = requests[asked++ % kinds];
    size_t size = strlen(request);
    one->since = since;
    one->busy = 1;
    busy++;
    one->closes = 0;
    one->length = 0;
    one->missing = -1;
    if (one->descriptor < 0 && !join(one)) lose(one);
    else if (send(one->descriptor, request, size, MSG_NOSIGNAL) != (ssize_t)size) lose(one);
}

/* Everybody who is idle asks, as far as requests are due. */
static void go_on(void)
{
    for (int index = 0; index < connections && !ending; index++) {
        double due = rate > 0 ? began + (double)asked / rate : now();
        if (due > now()) return;
        if (!all[index].busy) ask(&all[index], due);
    }
}

static void count(double seconds)
{
    if (answers == room) {
        room = room ? 2 * room : 1 << 16;
        times = realloc(times, (size_t)room * sizeof *times);
        if (!times) fail("keep the times");
    }
    times[answers++] = seconds;
}

/* Whether the head is whole now; takes its part of the piece. -1: it is none of an answer. */
static int read_head(struct connection *one, const char *piece, size_t size)
{
    size_t had = one->length, taken = size < HEAD - had ? size : HEAD - had;
    memcpy(one->head + had, piece, taken);
    one->length += taken;
    one->head[one->length] = 0;
    char *end = strstr(one->head, "\r\n\r\n");
    if (!end) return one->length < HEAD ? 0 : -1;
    end[2] = 0;
    char *length = strcasestr(one->head, "\r\ncontent-length:");
    if (strncmp(one->head, "HTTP/1.", 7) != 0 || one->head[9] != '2' || !length) return -1;
    one->closes = strcasestr(one->head, "\r\nconnection: close\r\n") != NULL;
    one->missing = atol(length + 17) - (long)(had + size - (size_t)(end + 4 - one->head));
    return 1;
}

static void hear(struct connection *one)
{
    static char piece[PIECE];
    ssize_t size = recv(one->descriptor, piece, PIECE, 0);
    if (size <= 0 && !one->busy) {
        leave(one);
        return;
    }
    int whole = size <= 0 ? -1 : 1;
    if (size > 0 && one->missing < 0) whole = read_head(one, piece, (size_t)size);
    else if (size > 0) one->missing -= size;
    if (whole < 0) lose(one);
    if (whole <= 0 || one->missing > 0) return;
    count(now() - one->since);
    settle(one);
    if (one->closes) leave(one);
}

static int by_value(const void *one, const void *other)
{
    double left = *(const double *)one, right = *(const double *)other;
    return (left > right) - (left < right);
}

static double ranked(double part)
{
    return answers ? times[(long)((double)(answers - 1) * part + 0.5)] * 1000 : 0;
}

static int timer(double seconds, double again, int data)
{
    int descriptor = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct itimerspec when = {
        .it_value = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)},
        .it_interval = {(time_t)again, (long)((again - (double)(time_t)again) * 1e9)},
    };
    if (descriptor < 0 || timerfd_settime(descriptor, 0, &when, NULL) < 0) fail("set a timer");
    watch(descriptor, data);
    return descriptor;
}

static void end(void)
{
    if (!ending) timer(PATIENCE, 0, END);
    ending++;
}

int main(int argc, char **argv)
{
    if (argc < 6) return 64;
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    connections = atoi(argv[2]);
    rate = atof(argv[3]);
    double seconds = atof(argv[4]);
    requests = argv + 5;
    kinds = argc - 5;
    if (connections < 1 || connections > MOST) return 64;
    for (int index = 0; index < connections; index++) all[index].descriptor = -1;

    sigset_t ours;
    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigprocmask(SIG_BLOCK, &ours, NULL);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    int signals = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
    if (epoll < 0 || signals < 0) fail("begin");
    watch(signals, SIGNALS);
    if (seconds > 0) timer(seconds, 0, END);
    int due = rate > 0 ? timer(1 / rate, 1 / rate, DUE) : -1;
    began = now();
    double ended = began;
    while (ending < 2 && (!ending || busy)) {
        struct epoll_event events[MOST];
        long before = failed;
        go_on();
        /* Who is refused by a server that is gone does not ask a million times a second. */
        int found = epoll_wait(epoll, events, MOST, rate <= 0 && !busy && failed > before ? 10 : -1);
        for (int which = 0; which < found; which++) {
            int data = events[which].data.fd;
            uint64_t rung;
            if (data == SIGNALS || data == END) end();
            else if (data != DUE) hear(&all[data]);
            else if (read(due, &rung, sizeof rung) < 0) continue;
            if (ending == 1 && ended == began) ended = now();
        }
    }
    failed += busy;
    if (answers) qsort(times, (size_t)answers, sizeof *times, by_value);
    printf("%ld %ld %.3f ", answers, failed, ended - began);
    printf("%.4f %.4f %.4f\n", ranked(0.5), ranked(0.99), ranked(1));
    return 0;
}
