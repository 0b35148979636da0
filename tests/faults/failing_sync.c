/* Makes an fsync or fdatasync of some file fail with EIO, once, or take a second.
 *
 * The environment variable FAILING_SYNC names a file. While that file exists, syncs of a file whose
 * path contains the text in it, behind its first character, are not as they should be. "!" as the
 * first character makes one fail, and removes the file: later syncs succeed, as they do on Linux
 * after a real failure. Any other makes each take a second. Loaded by LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int must_fail(int fd)
{
    char link[64], path[4096], text[256];
    const char *control = getenv("FAILING_SYNC");
    ssize_t n;
    int file;

    if (control == NULL || (file = open(control, O_RDONLY | O_CLOEXEC)) < 0)
        return 0;
    n = read(file, text, sizeof text - 1);
    close(file);
    if (n <= 1)
        return 0;
    text[n] = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    if (n <= 0)
        return 0;
    path[n] = 0;
    if (strstr(path, text + 1) == NULL)
        return 0;
    if (text[0] == '!')
        return unlink(control) == 0;
    sleep(1);
    return 0;
}

static int sync_or_fail(const char *name, int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);

    if (must_fail(fd)) {
        errno = EIO;
        return -1;
    }
    return real(fd);
}

int fsync(int fd) { return sync_or_fail("fsync", fd); }
int fdatasync(int fd) { return sync_or_fail("fdatasync", fd); }
