/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PERF_PIN_H
#define PERF_PIN_H

#include <pthread.h>
#include <stdint.h>

#include "opts.h"

/** perf_pin() - put @thread, the @index-th of its kind, on the processor --pin gives it, if it gives
 *  any. A processor that is not there is complained of on stderr and otherwise ignored. */
void perf_pin(pthread_t thread, const struct perf_opts *o, uint32_t index);

#endif
