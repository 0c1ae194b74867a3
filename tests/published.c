/* published.c - a file with the tensors of a published one and no numbers; see published.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "golden.h"
#include "published.h"
#include "scratch.h"

const char *published_checkpoint(const char *file_name)
{
    json_t *root = golden_json("ldm_sd15.json"), *shape;
    char *header = malloc(1 << 20), *at = header;
    const char *name;
    uint64_t end = 0, n;
    int file;

    *at++ = '{';
    json_object_foreach(root, name, shape) {
        uint64_t begin = end, count = 1;
        char *dims = json_dumps(shape, JSON_COMPACT);

        for (size_t i = 0; i < json_array_size(shape); i++)
            count *= (uint64_t)json_integer_value(json_array_get(shape, i));
        end += 2 * count;
        at += sprintf(at, "%s\"%s\":{\"dtype\":\"F16\",\"shape\":%s,\"data_offsets\":[%llu,%llu]}",
                      begin ? "," : "", name, dims, (unsigned long long)begin,
                      (unsigned long long)end);
        free(dims);
    }
    *at++ = '}';
    n = (uint64_t)(at - header);
    scratch_text(file_name, "");
    file = open(scratch(file_name), O_WRONLY);
    if (write(file, &n, 8) != 8 || write(file, header, n) != (ssize_t)n ||
        ftruncate(file, (off_t)(8 + n + end)) < 0)
        die("no room for a large file with a hole");
    close(file);
    free(header);
    json_decref(root);
    return scratch(file_name);
}
