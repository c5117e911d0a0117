// A library with OpenSSL's functions that is TLS in name only: the caller says what each call does. So what a real one
// seldom does can be had at will, a call that never returns among it, and functions that only newer versions have.
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Does the call's work: bytes that were read or written.
int (*during)(void *ssl, void *buffer, size_t length);

int SSL_read(void *ssl, void *buffer, int length) { return during(ssl, buffer, length); }
int SSL_write(void *ssl, const void *buffer, int length) { return during(ssl, (void *)buffer, length); }
static int counted(void *ssl, void *buffer, size_t length, size_t *count) {
    *count = during(ssl, buffer, length);
    return *count > 0;
}
int SSL_read_ex(void *ssl, void *buffer, size_t length, size_t *count) { return counted(ssl, buffer, length, count); }
int SSL_write_ex(void *ssl, const void *buffer, size_t length, size_t *count) {
    return counted(ssl, (void *)buffer, length, count);
}
int SSL_write_ex2(void *ssl, const void *buffer, size_t length, uint64_t flags, size_t *count) {
    return counted(ssl, (void *)buffer, length, count);
}
ssize_t SSL_sendfile(void *ssl, int fd, off_t offset, size_t size, int flags) { return size; }
int SSL_up_ref(void *ssl) { return 1; }
void SSL_free(void *ssl) {}
