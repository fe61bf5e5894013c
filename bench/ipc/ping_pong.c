/* The floor: two processes and a Unix stream socket, in C.
 *
 *     ping_pong request COUNT
 *     ping_pong one-way COUNT PAYLOADS_PER_WRITE
 *     ping_pong large COUNT BYTES
 *     ping_pong connections COUNT PATH
 *
 * Writes one line of JSON. CPU time is that of both processes, the warm-up's share taken out.
 * A peer that hangs ends both by SIGALRM.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAYLOAD = 64, CHUNK = 1 << 16, PATIENCE = 60 };

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static double cpu_of(int who) {
    struct rusage used;
    getrusage(who, &used);
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e9 +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e3;
}

/* Nanoseconds for each of `count`. To be called last: it waits for the other process. */
static double cpu_of_both(long count) {
    while (wait(NULL) > 0)
        ;
    return (cpu_of(RUSAGE_SELF) + cpu_of(RUSAGE_CHILDREN)) / count;
}

static void write_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t written = write(fd, data, size);
        if (written <= 0)
            fail("write");
        data += written;
        size -= written;
    }
}

/* Whether there was anything before the end of the stream. */
static int read_all(int fd, char *data, size_t size) {
    while (size > 0) {
        ssize_t received = read(fd, data, size);
        if (received < 0)
            fail("read");
        if (received == 0)
            return 0;
        data += received;
        size -= received;
    }
    return 1;
}

/* Starts the other process; returns this one's end of the socket. */
static int with_peer(void (*serve)(int fd, long argument), long argument) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        fail("socketpair");
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        alarm(PATIENCE);
        close(pair[0]);
        serve(pair[1], argument);
        exit(0);
    }
    close(pair[1]);
    return pair[0];
}

static int ascending(const void *left, const void *right) {
    long long a = *(const long long *)left, b = *(const long long *)right;
    return (a > b) - (a < b);
}

static void serve_calls(int fd, long argument) {
    char payload[PAYLOAD];
    (void)argument;
    while (read_all(fd, payload, PAYLOAD))
        write_all(fd, payload, PAYLOAD);
}

static void request(long count) {
    int fd = with_peer(serve_calls, 0);
    long warm_up = count / 10 + 1;
    long long *took = calloc(count, sizeof *took);
    char payload[PAYLOAD] = {0};
    if (took == NULL)
        fail("calloc");
    for (long number = -warm_up; number < count; number++) {
        long long start = now();
        write_all(fd, payload, PAYLOAD);
        read_all(fd, payload, PAYLOAD);
        if (number >= 0)
            took[number] = now() - start;
    }
    close(fd);
    qsort(took, count, sizeof *took, ascending);
    printf("{\"p50\": %g, \"p99\": %g, \"cpu\": %g}\n", took[count / 2] / 1e3,
           took[count * 99 / 100] / 1e3, cpu_of_both(count + warm_up) / 1e3);
}

static void serve_messages(int fd, long argument) {
    static char received[CHUNK];
    long left = argument * PAYLOAD;
    ssize_t size;
    while ((size = read(fd, received, CHUNK)) > 0)
        if ((left -= size) <= 0) {
            write_all(fd, "k", 1);
            left += argument * PAYLOAD;
        }
}

static void one_way(long count, long batch) {
    int fd = with_peer(serve_messages, count);
    char *payloads = calloc(batch, PAYLOAD), done;
    long long start = 0;
    if (payloads == NULL)
        fail("calloc");
    for (int round = 0; round < 2; round++) {
        start = now();
        for (long number = 0; number < count; number += batch)
            write_all(fd, payloads, batch * PAYLOAD);
        read_all(fd, &done, 1);
    }
    long long took = now() - start;
    close(fd);
    printf("{\"rate\": %g, \"cpu\": %g}\n", count * 1e6 / took, cpu_of_both(2 * count) / 1e3);
}

static void serve_large(int fd, long argument) {
    char *buffer = malloc(argument);
    if (buffer == NULL)
        fail("malloc");
    while (read_all(fd, buffer, argument)) {
        volatile char touched = buffer[0] + buffer[argument - 1];
        (void)touched;
        write_all(fd, "k", 1);
    }
}

static void large(long count, long size) {
    int fd = with_peer(serve_large, size);
    long warm_up = count / 4 + 1;
    long long *took = calloc(count, sizeof *took);
    char *payload = malloc(size), done;
    if (took == NULL || payload == NULL)
        fail("malloc");
    memset(payload, 1, size);
    for (long number = -warm_up; number < count; number++) {
        long long start = now();
        write_all(fd, payload, size);
        read_all(fd, &done, 1);
        if (number >= 0)
            took[number] = now() - start;
    }
    close(fd);
    qsort(took, count, sizeof *took, ascending);
    printf("{\"p50\": %g, \"max\": %g, \"cpu\": %g}\n", took[count / 2] / 1e6,
           took[count - 1] / 1e6, cpu_of_both(count + warm_up) / 1e6);
}

static int listener;

static void serve_connections(int fd, long argument) {
    char payload[PAYLOAD];
    (void)fd;
    while (argument-- > 0) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0)
            fail("accept");
        read_all(connection, payload, PAYLOAD);
        write_all(connection, "k", 1);
        close(connection);
    }
}

static void connections(long count, const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    long warm_up = count / 10 + 1;
    long long start = 0;
    char payload[PAYLOAD] = {0};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 128) != 0)
        fail(path);
    with_peer(serve_connections, count + warm_up);
    for (long number = -warm_up; number < count; number++) {
        if (number == 0)
            start = now();
        int connection = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connection < 0 || connect(connection, (struct sockaddr *)&address, sizeof address) != 0)
            fail(path);
        write_all(connection, payload, PAYLOAD);
        read_all(connection, payload, 1);
        close(connection);
    }
    long long took = now() - start;
    printf("{\"rate\": %g, \"cpu\": %g}\n", count * 1e9 / took,
           cpu_of_both(count + warm_up) / 1e3);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    long count = argc > 2 ? atol(argv[2]) : 0;
    const char *argument = argc > 3 ? argv[3] : "";
    alarm(PATIENCE);
    signal(SIGPIPE, SIG_IGN);
    if (count > 0 && strcmp(what, "request") == 0)
        request(count);
    else if (count > 0 && strcmp(what, "one-way") == 0 && atol(argument) > 0)
        one_way(count, atol(argument));
    else if (count > 0 && strcmp(what, "large") == 0 && atol(argument) > 0)
        large(count, atol(argument));
    else if (count > 0 && strcmp(what, "connections") == 0)
        connections(count, argument);
    else {
        fprintf(stderr, "usage: ping_pong request|one-way|large|connections COUNT [ARGUMENT]\n");
        return 2;
    }
    return 0;
}
