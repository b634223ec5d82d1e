/* The lower bound of a rolling restart: the least that can replace the workers of a web pool one by one.
 *
 *     roll COUNT SOCKET NOTIFY PROGRAM ARGUMENT...
 *
 * Listens on SOCKET, and keeps COUNT copies that have the listener as descriptor 3. At SIGHUP it starts a
 * new one for each, waits until that says READY=1 on NOTIFY, tells the old one to end by SIGTERM, and waits
 * until it has. SIGTERM ends it. Who ends unasked is not replaced: bound.c knows how, and here nobody does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LISTENER = 3, MOST = 1000 };

static pid_t workers[MOST];
static char **command;
static sigset_t unblocked;

static void fail(const char *what)
{
    fprintf(stderr, "roll: cannot %s: %s\n", what, strerror(errno));
    exit(71);
}

static int bound_socket(const char *path, int kind)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int descriptor = socket(AF_UNIX, kind, 0);
    if (descriptor < 0) fail("make a socket");
    if (bind(descriptor, (struct sockaddr *)&address, sizeof address) < 0) fail("bind a socket");
    return descriptor;
}

static pid_t spawn(void)
{
    pid_t pid = vfork();
    if (pid == 0) {
        sigprocmask(SIG_SETMASK, &unblocked, NULL);
        setsid();
        execv(command[0], command);
        _exit(127);
    }
    if (pid < 0) fail("start the program");
    return pid;
}

static void wait_ready(int notify)
{
    char message[64];
    ssize_t size;
    do {
        size = recv(notify, message, sizeof message, 0);
        if (size < 0) fail("hear that a worker is ready");
    } while (size != 7 || memcmp(message, "READY=1", 7) != 0);
}

static void end(pid_t worker)
{
    kill(worker, SIGTERM);
    if (waitpid(worker, NULL, 0) < 0) fail("wait for a worker");
}

int main(int argc, char **argv)
{
    if (argc < 5) return 64;
    int count = atoi(argv[1]);
    if (count < 0 || count > MOST) return 64;
    command = argv + 4;

    sigset_t ours;
    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGHUP);
    sigprocmask(SIG_BLOCK, &ours, &unblocked);
    int listener = bound_socket(argv[2], SOCK_STREAM);
    if (listen(listener, SOMAXCONN) < 0) fail("listen");
    if (listener != LISTENER && dup2(listener, LISTENER) < 0) fail("give the listener its number");
    int notify = bound_socket(argv[3], SOCK_DGRAM | SOCK_CLOEXEC);
    if (setenv("NOTIFY_SOCKET", argv[3], 1) < 0) fail("name the socket");
    for (int index = 0; index < count; index++) workers[index] = spawn(), wait_ready(notify);

    for (int number; sigwait(&ours, &number) == 0 && number == SIGHUP;)
        for (int index = 0; index < count; index++) {
            pid_t old = workers[index];
            workers[index] = spawn();
            wait_ready(notify);
            end(old);
        }
    for (int index = 0; index < count; index++) end(workers[index]);
    return 0;
}
