// SPDX-License-Identifier: Apache-2.0
// Debian compiles libunwind with glibc's checked functions, of which musl has none. libunwind uses
// them only for the messages of its own faults.
#include <stdarg.h>
#include <stdio.h>
int __vfprintf_chk(FILE *stream, int flag, const char *format, va_list arguments) {
  (void)flag;
  return vfprintf(stream, format, arguments);
}
int __vsnprintf_chk(char *text, size_t size, int flag, size_t room, const char *format,
                    va_list arguments) {
  (void)flag;
  return vsnprintf(text, size < room ? size : room, format, arguments);
}
