/* An external TFLite delegate that behaves as it is told: a double for an accelerator's library.
 *
 * It claims no node, so that results are the CPU's. Options: `behaviour` is what it does when it is
 * created or applied; `log` is a file that it writes its options to.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The beginning of TFLite's C struct, which has not changed since delegates exist. */
struct delegate {
  void *data;
  int (*prepare)(void *context, struct delegate *self);
  void *copy_from, *copy_to, *release;
  int64_t flags;
  void *builder;
};

static void hang(void) {
  for (;;) sleep(1000);
}

static int prepare(void *context, struct delegate *self) {
  const char *behaviour = self->data;
  if (!strcmp(behaviour, "fail-to-apply")) return 1;
  if (!strcmp(behaviour, "hang-when-applied")) hang();
  if (!strcmp(behaviour, "crash-when-applied")) abort();
  return 0;
}

struct delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count,
                                               void (*complain)(const char *)) {
  const char *behaviour = "accept";
  for (size_t n = 0; n < count; n++) {
    if (!strcmp(keys[n], "behaviour")) behaviour = values[n];
    if (!strcmp(keys[n], "log")) {
      FILE *log = fopen(values[n], "a");
      if (!log) abort();
      for (size_t m = 0; m < count; m++) fprintf(log, "%s=%s\n", keys[m], values[m]);
      fclose(log);
    }
  }
  if (!strcmp(behaviour, "refuse")) {
    complain("no such device is plugged in");
    return NULL;
  }
  if (!strcmp(behaviour, "hang")) hang();
  if (!strcmp(behaviour, "crash")) *(volatile int *)0 = 1;
  struct delegate *self = calloc(1, sizeof *self);
  self->data = strdup(behaviour);
  self->prepare = prepare;
  return self;
}

void tflite_plugin_destroy_delegate(struct delegate *self) {
  free(self->data);
  free(self);
}
