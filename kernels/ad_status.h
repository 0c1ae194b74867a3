/* ad_status.h - the few words that kernels, engine and the world share.
 *
 * Installed beside animatediff.h, which includes it.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_STATUS_H
#define AD_STATUS_H

#include <stdint.h>

/* Result of every call that can fail. Negative: failure; the sentence that goes with it is in
 * ad_context_error(). */
typedef enum AdStatus {
    AD_OK              = 0,
    AD_DONE            = 1,     /* ad_session_step: that was the last step                   */
    AD_ERR_NOMEM       = -1,    /* host or device memory                                     */
    AD_ERR_INVALID     = -2,    /* option, prompt, command or call that cannot be meant      */
    AD_ERR_NOTFOUND    = -3,    /* a file is missing                                         */
    AD_ERR_ACCESS      = -4,    /* a file may not be read                                    */
    AD_ERR_FORMAT      = -5,    /* malformed, hostile or wrong-family file                   */
    AD_ERR_UNSUPPORTED = -6,    /* well-formed, but not supported                            */
    AD_ERR_IO          = -7,    /* read error, or the file changed while it was loaded       */
    AD_ERR_NUMERIC     = -8,    /* a result is not finite                                    */
    AD_ERR_CANCELLED   = -9,    /* the caller asked to stop                                  */
    AD_ERR_BACKEND     = -10,   /* driver or library unusable                                */
    AD_ERR_LOST        = -11    /* the device is gone; only a new process helps              */
} AdStatus;

/* Bytes. `ours` is what this context holds now, `peak` the most it ever held. */
typedef struct AdMemory {
    uint64_t total;             /* of the device; 0: unknown                                 */
    uint64_t free;              /* of the device; 0: unknown                                 */
    uint64_t ours;
    uint64_t peak;
} AdMemory;

typedef enum AdLogLevel {
    AD_LOG_ERROR,
    AD_LOG_WARNING,
    AD_LOG_INFO,
    AD_LOG_VERBOSE,
    AD_LOG_DEBUG
} AdLogLevel;

#endif
