/* A worker of a web pool: answers one request a connection, on a socket that it shares with its siblings.
 *
 *     web FIFO DESCRIPTOR
 *
 * Says that it began as worker.c does, and READY=1 to NOTIFY_SOCKET if there is one. An answer takes five
 * milliseconds of sleep. After SIGTERM it finishes what it has taken and ends; who is in the queue of the
 * socket then is left to the siblings.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct record { /* as in worker.c */
    int32_t pid;
    int32_t kind;
    int64_t nanoseconds;
};

enum { REQUEST = 4096 };

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";

static void say_ready(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!path || strlen(path) >= sizeof address.sun_path) return;
    strcpy(address.sun_path, path);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    if (path[0] == '@') address.sun_path[0] = 0;
    int notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sendto(notify, "READY=1", 7, 0, (struct sockaddr *)&address, size) < 0) _exit(74);
    close(notify);
}

static void serve(int client)
{
    static char request[REQUEST + 1];
    struct timeval patience = {.tv_sec = 10};
    struct timespec work = {.tv_nsec = 5000000};
    size_t length = 0;
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    do {
        ssize_t size = recv(client, request + length, REQUEST - length, 0);
        if (size <= 0) break;
        length += (size_t)size;
        request[length] = 0;
    } while (!strstr(request, "\r\n\r\n"));
    while (nanosleep(&work, &work) < 0) { }
    if (length) send(client, answer, sizeof answer - 1, MSG_NOSIGNAL);
    close(client);
}

int main(int argc, char **argv)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (argc < 3) return 64;
    int listener = atoi(argv[2]);

    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    int signals = signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK);

    int fifo = open(argv[1], O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    struct record record = {getpid(), 'B', now.tv_sec * 1000000000LL + now.tv_nsec};
    if (fifo >= 0 && write(fifo, &record, sizeof record) < 0) return 74;
    if (fifo >= 0) close(fifo);

    /* Shared with the siblings as is the socket: they all want it so. */
    fcntl(listener, F_SETFL, O_NONBLOCK);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event asked = {.events = EPOLLIN | EPOLLEXCLUSIVE}, told = {.events = EPOLLIN, .data.u32 = 1};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &asked) < 0) return 71;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, signals, &told) < 0) return 71;
    say_ready();
    for (int ending = 0; !ending;) {
        struct epoll_event events[2];
        int found = epoll_wait(epoll, events, 2, -1);
        for (int which = 0; which < found; which++) ending |= (int)events[which].data.u32;
        /* Also when told: it may be the only one that was woken for a connection. */
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (client >= 0) serve(client);
    }
    return 0;
}
