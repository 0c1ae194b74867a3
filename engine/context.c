/* context.c - a device, a log and the last error.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "internal.h"
#include "utf8.h"

#define TEXT_OF(x)  TEXT_OF_(x)
#define TEXT_OF_(x) #x

const char *ad_version(void)
{
    return TEXT_OF(AD_VERSION_MAJOR) "." TEXT_OF(AD_VERSION_MINOR) "." TEXT_OF(AD_VERSION_MICRO);
}

const char *ad_status_name(AdStatus status)
{
    static const struct { AdStatus status; const char *name; } names[] = {
        { AD_OK, "AD_OK" },
        { AD_DONE, "AD_DONE" },
        { AD_ERR_NOMEM, "AD_ERR_NOMEM" },
        { AD_ERR_INVALID, "AD_ERR_INVALID" },
        { AD_ERR_NOTFOUND, "AD_ERR_NOTFOUND" },
        { AD_ERR_ACCESS, "AD_ERR_ACCESS" },
        { AD_ERR_FORMAT, "AD_ERR_FORMAT" },
        { AD_ERR_UNSUPPORTED, "AD_ERR_UNSUPPORTED" },
        { AD_ERR_IO, "AD_ERR_IO" },
        { AD_ERR_NUMERIC, "AD_ERR_NUMERIC" },
        { AD_ERR_CANCELLED, "AD_ERR_CANCELLED" },
        { AD_ERR_BACKEND, "AD_ERR_BACKEND" },
        { AD_ERR_LOST, "AD_ERR_LOST" },
    };

    for (size_t i = 0; i < AD_COUNT(names); i++)
        if (names[i].status == status)
            return names[i].name;
    return "unknown status";
}

const char *ad_backend_name(int i)
{
    for (int k = 0; ad_backends[k]; k++)
        if (strcmp(ad_backends[k]->name, "null") && i-- == 0)
            return ad_backends[k]->name;
    return NULL;
}

/* ---- messages ----------------------------------------------------------------------------- */

/* Characters that would disturb a terminal or reorder the line. */
static bool unprintable(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || (c >= 0x200b && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff;
}

/* Paths have any bytes, and a precision cuts in the middle of a character. */
static void make_readable(char *s)
{
    size_t n = strlen(s), bytes;

    for (size_t i = 0; i < n; i += bytes) {
        uint32_t c;

        bytes = ad_utf8_decode(s + i, n - i, &c);
        if (bytes && !unprintable(c))
            continue;
        bytes += !bytes;
        memset(s + i, '?', bytes);
    }
}

AdStatus ad_fail(AdContext *ctx, AdStatus status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    ad_vformat(ctx->error, sizeof(ctx->error), format, args);
    va_end(args);
    make_readable(ctx->error);
    if (status != AD_ERR_CANCELLED)
        ad_log(ctx, AD_LOG_ERROR, "%s", ctx->error);
    return status;
}

AdStatus ad_fail_nomem(AdContext *ctx, const char *what)
{
    return ad_fail(ctx, AD_ERR_NOMEM, "no memory for %s", what);
}

void ad_log(AdContext *ctx, AdLogLevel level, const char *format, ...)
{
    char line[512];
    va_list args;

    if (!ctx->log)
        return;
    va_start(args, format);
    ad_vformat(line, sizeof(line), format, args);
    va_end(args);
    make_readable(line);
    ctx->log(ctx->opaque, level, line);
}

bool ad_stopping(AdContext *ctx)
{
    return ctx->stop && ctx->stop(ctx->opaque);
}

const char *ad_quote(const char *s, size_t n, char *out)
{
    size_t used = 0, end = 0;

    while (used < n) {
        uint32_t c;
        size_t bytes = ad_utf8_decode(s + used, n - used, &c);
        bool plain = bytes && !unprintable(c);

        bytes += !bytes;
        if (end + (plain ? bytes : 4 * bytes) > AD_QUOTE_SHOWN)
            break;
        for (size_t i = 0; i < bytes; i++, end += plain ? 1 : 4)
            if (plain)
                out[end] = s[used + i];
            else
                ad_format(out + end, 5, "\\x%02x", (unsigned char)s[used + i]);
        used += bytes;
    }
    strcpy(out + end, used < n ? "..." : "");
    return out;
}

/* ---- life --------------------------------------------------------------------------------- */

void ad_context_defaults(AdContextParams *params)
{
    *params = (AdContextParams){ .device = "auto" };
}

AdStatus ad_context_create(AdContext **out, const AdContextParams *params)
{
    const char *device = params->device ? params->device : "auto";
    AdContext *ctx = ad_alloc(sizeof(*ctx));
    char why[256], message[256];
    AdStatus st;

    *out = NULL;
    if (!ctx) {
        if (params->log)
            params->log(params->opaque, AD_LOG_ERROR, "no memory for a context");
        return AD_ERR_NOMEM;
    }
    ctx->log    = params->log;
    ctx->stop   = params->stop;
    ctx->opaque = params->opaque;
    st = ad_backend_open(&ctx->backend, device, params->threads, why, message, sizeof(why));
    if (st < 0) {
        ad_fail(ctx, st, "%s", message);
        ad_free(ctx);
        return st;
    }
    if (why[0])
        ad_log(ctx, AD_LOG_INFO, "device auto: CUDA is not used: %s", why);
    *out = ctx;
    return AD_OK;
}

void ad_context_destroy(AdContext **handle)
{
    AdContext *ctx = *handle;

    *handle = NULL;
    if (!ctx)
        return;
    if (ctx->backend)
        ctx->backend->cls->close(&ctx->backend);
    ad_free(ctx);
}

const char *ad_context_error(const AdContext *ctx)
{
    return ctx->error;
}

AdStatus ad_context_memory(AdContext *ctx, AdMemory *out)
{
    AdStatus st = ctx->backend->cls->memory(ctx->backend, out);

    return st < 0 ? ad_fail(ctx, st, "%s", ctx->backend->message) : st;
}
