/* libstrand: for programs that write, read, hear of or handle strands.
 *
 *     cc -o program program.c $(pkg-config --cflags --libs strand)
 *
 * This header is all of them; each part stands alone, too.
 */
#ifndef STRAND_STRAND_H
#define STRAND_STRAND_H

#include <strand/client.h>
#include <strand/data.h>
#include <strand/error.h>
#include <strand/handler.h>
#include <strand/listener.h>

#endif
