/* What append.py compares with: the same work for a record batch, in C.
 *
 *   reference append memory|socket BATCH_BYTES COUNT PATH   for each batch: receive it (a copy from memory, or from file
 *                        descriptor 0), check its CRC32C, stamp offset and leader epoch, pwrite it. Prints nanoseconds.
 *   reference feed BATCH_BYTES COUNT    writes the batch to file descriptor 1 again and again: the sender for both sides.
 *
 * Both read the batch itself from the file named by BATCH in the environment.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CRC_AT 17
#define COVERED_FROM 21
#define STREAM 1360 /* bytes of each of three CRCs that run at once: 3 x 1360 x 4 is about 16 KiB */

#if defined(__SSE4_2__)
#include <nmmintrin.h>
#define KIND "hardware"
static uint64_t crc_word(uint64_t crc, uint64_t word) { return _mm_crc32_u64(crc, word); }
static uint32_t crc_byte(uint32_t crc, uint8_t byte) { return _mm_crc32_u8(crc, byte); }
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#define KIND "hardware"
static uint64_t crc_word(uint64_t crc, uint64_t word) { return __crc32cd((uint32_t)crc, word); }
static uint32_t crc_byte(uint32_t crc, uint8_t byte) { return __crc32cb(crc, byte); }
#else
#define KIND "software"
static uint32_t crc_byte(uint32_t crc, uint8_t byte)
{
    crc ^= byte;
    for (int bit = 0; bit < 8; bit++)
        crc = crc >> 1 ^ (0x82f63b78 & -(crc & 1));
    return crc;
}
static uint64_t crc_word(uint64_t crc, uint64_t word)
{
    for (int byte = 0; byte < 8; byte++, word >>= 8)
        crc = crc_byte((uint32_t)crc, (uint8_t)word);
    return crc;
}
#endif

static uint32_t shifted[4][256]; /* a CRC after STREAM bytes of zero, by each of its four bytes */

static void fill_tables(void)
{
    for (int part = 0; part < 4; part++)
        for (uint32_t value = 0; value < 256; value++) {
            uint64_t crc = value << 8 * part;
            for (int word = 0; word < STREAM / 8; word++)
                crc = crc_word(crc, 0);
            shifted[part][value] = (uint32_t)crc;
        }
}

static uint32_t shift(uint64_t crc)
{
    return shifted[0][crc & 255] ^ shifted[1][crc >> 8 & 255] ^ shifted[2][crc >> 16 & 255] ^ shifted[3][crc >> 24 & 255];
}

static uint64_t word_at(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, 8);
    return word;
}

/* Three streams at once hide the three cycles that one crc instruction takes. */
static uint32_t crc32c(const uint8_t *bytes, size_t size)
{
    uint64_t crc = 0xffffffff;
    for (; size >= 3 * STREAM; bytes += 3 * STREAM, size -= 3 * STREAM) {
        uint64_t second = 0, third = 0;
        for (int at = 0; at < STREAM; at += 8) {
            crc = crc_word(crc, word_at(bytes + at));
            second = crc_word(second, word_at(bytes + STREAM + at));
            third = crc_word(third, word_at(bytes + 2 * STREAM + at));
        }
        crc = shift(shift(crc) ^ second) ^ third;
    }
    for (; size >= 8; bytes += 8, size -= 8)
        crc = crc_word(crc, word_at(bytes));
    for (; size; bytes++, size--)
        crc = crc_byte((uint32_t)crc, *bytes);
    return (uint32_t)crc ^ 0xffffffff;
}

static uint32_t read_32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void write_bytes(uint8_t *at, uint64_t value, int size)
{
    for (int byte = size - 1; byte >= 0; byte--, value >>= 8)
        at[byte] = (uint8_t)value;
}

static void fail(const char *what)
{
    fprintf(stderr, "reference: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void receive_fully(int from, uint8_t *buffer, size_t size)
{
    for (size_t filled = 0; filled < size;) {
        ssize_t got = read(from, buffer + filled, size - filled);
        if (got <= 0)
            fail("read");
        filled += (size_t)got;
    }
}

static void append(const uint8_t *batch, size_t size, long count, const char *path, int from_socket)
{
    uint8_t *buffer = malloc(size);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (!buffer || file < 0)
        fail(path);
    uint64_t offset = 0, position = 0;
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    for (long number = 0; number < count; number++) {
        if (from_socket)
            receive_fully(0, buffer, size);
        else
            memcpy(buffer, batch, size);
        size_t length = read_32(buffer + 8) + 12u;
        if (length != size || buffer[16] != 2 || crc32c(buffer + COVERED_FROM, size - COVERED_FROM) != read_32(buffer + CRC_AT)) {
            fprintf(stderr, "reference: a broken batch\n");
            exit(1);
        }
        uint32_t records = read_32(buffer + 57);
        write_bytes(buffer, offset, 8);
        write_bytes(buffer + 12, 1, 4);
        if (pwrite(file, buffer, size, (off_t)position) != (ssize_t)size)
            fail("pwrite");
        offset += records;
        position += size;
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("%lld %s\n", (long long)(ended.tv_sec - began.tv_sec) * 1000000000LL + ended.tv_nsec - began.tv_nsec, KIND);
    close(file);
}

static void feed(const uint8_t *batch, size_t size, long count)
{
    for (long number = 0; number < count; number++)
        for (size_t sent = 0; sent < size;) {
            ssize_t wrote = write(1, batch + sent, size - sent);
            if (wrote < 0)
                exit(0); /* the receiver has had enough */
            sent += (size_t)wrote;
        }
}

int main(int count, char **words)
{
    int feeds = count == 4 && !strcmp(words[1], "feed");
    if (!feeds && count != 6) {
        fprintf(stderr, "usage: reference append memory|socket BATCH_BYTES COUNT PATH | feed BATCH_BYTES COUNT\n");
        return 2;
    }
    size_t size = (size_t)atol(words[feeds ? 2 : 3]);
    uint8_t *batch = malloc(size);
    int file = open(getenv("BATCH") ? getenv("BATCH") : "", O_RDONLY);
    if (file < 0 || !batch)
        fail("BATCH");
    receive_fully(file, batch, size);
    fill_tables();
    if (feeds)
        feed(batch, size, atol(words[3]));
    else
        append(batch, size, atol(words[4]), words[5], !strcmp(words[2], "socket"));
    return 0;
}
