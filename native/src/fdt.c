/* Descriptor tables: Linux's files_struct. */
#include "objects.h"

#include <stdlib.h>
#include <string.h>

#define ALONE 2 /* references: Python's, and that of the one task */

nc_fdt *nc_fdt_new(int limit) {
    nc_fdt *fdt = calloc(1, sizeof *fdt);
    if (!fdt) return NULL;
    fdt->refs = 1;
    fdt->limit = limit;
    fdt->stub_fd = -1;
    return fdt;
}

/* Room for slot `fd`. */
static int grow(nc_fdt *fdt, int fd) {
    if (fd < fdt->size) return 0;
    int64_t size = fdt->size ? fdt->size : 16;
    while (size <= fd) size *= 2;
    if (size > INT32_MAX) return -ENOMEM;
    struct nc_slot *slots = realloc(fdt->slots, (size_t)size * sizeof *slots);
    if (!slots) return -ENOMEM;
    memset(slots + fdt->size, 0, (size_t)(size - fdt->size) * sizeof *slots);
    fdt->slots = slots;
    fdt->size = (int32_t)size;
    return 0;
}

/* The guest's host table is copied by fork(2) as well, so what is injected there stays so in the child. */
nc_fdt *nc_fdt_fork(const nc_fdt *fdt) {
    nc_fdt *copy = malloc(sizeof *copy);
    if (!copy) return NULL;
    *copy = *fdt;
    copy->refs = 1;
    copy->locks = 0; /* POSIX locks are not inherited */
    copy->slots = malloc((size_t)fdt->size * sizeof *copy->slots);
    if (!copy->slots && fdt->size) {
        free(copy);
        return NULL;
    }
    for (int i = 0; i < fdt->size; i++) {
        copy->slots[i] = fdt->slots[i];
        if (copy->slots[i].file) nc_file_get(copy->slots[i].file);
    }
    return copy;
}

int nc_fdt_clear(nc_fdt *fdt) {
    for (int i = 0; i < fdt->size; i++) {
        nc_file *file = fdt->slots[i].file;
        fdt->slots[i].file = NULL;
        if (file) nc_file_put(file);
    }
    fdt->next_free = 0;
    return 0;
}

void nc_fdt_get(nc_fdt *fdt) { fdt->refs++; }

void nc_fdt_put(nc_fdt *fdt) {
    if (--fdt->refs) return;
    nc_fdt_clear(fdt);
    free(fdt->slots);
    free(fdt);
}

int nc_fdt_free(nc_fdt *fdt) {
    nc_fdt_put(fdt);
    return 0;
}

int64_t nc_fdt_lookup(const nc_fdt *fdt, int fd, int path_ok) {
    const struct nc_slot *slot = nc_fdt_slot(fdt, fd);
    if (!slot || ((slot->file->flags & O_PATH) && !path_ok)) return -EBADF;
    return (int64_t)slot->file->id;
}

nc_file *nc_fdt_file(const nc_fdt *fdt, int fd) {
    const struct nc_slot *slot = nc_fdt_slot(fdt, fd);
    return slot ? slot->file : NULL;
}

static int find_free(const nc_fdt *fdt, int from) {
    if (from < fdt->next_free) from = fdt->next_free;
    while (from < fdt->size && fdt->slots[from].file) from++;
    return from;
}

int nc_fdt_room(const nc_fdt *fdt) {
    int fd = find_free(fdt, 0);
    return fd < fdt->limit ? fd : -EMFILE;
}

static void put_in_slot(nc_fdt *fdt, int fd, nc_file *file, int cloexec) {
    nc_file_get(file);
    fdt->slots[fd].file = file;
    fdt->slots[fd].cloexec = cloexec != 0;
}

int nc_fdt_install(nc_fdt *fdt, nc_file *file, int cloexec, int lowest) {
    if (lowest < 0 || lowest >= fdt->limit) return -EINVAL;
    int fd = find_free(fdt, lowest);
    if (fd >= fdt->limit) return -EMFILE;
    int error = grow(fdt, fd);
    if (error) return error;
    put_in_slot(fdt, fd, file, cloexec);
    if (lowest <= fdt->next_free) fdt->next_free = fd + 1;
    return fd;
}

int nc_fdt_install_at(nc_fdt *fdt, int fd, nc_file *file, int cloexec) {
    if (fd < 0 || fd >= fdt->limit) return -EBADF;
    int error = grow(fdt, fd);
    if (error) return error;
    nc_file *old = fdt->slots[fd].file;
    put_in_slot(fdt, fd, file, cloexec);
    if (old) nc_file_put(old);
    return fd;
}

int nc_fdt_close(nc_fdt *fdt, int fd) {
    struct nc_slot *slot = nc_fdt_slot(fdt, fd);
    if (!slot) return -EBADF;
    nc_file *file = slot->file;
    slot->file = NULL;
    slot->cloexec = 0;
    if (fd < fdt->next_free) fdt->next_free = fd;
    nc_file_put(file);
    return slot->injected;
}

int nc_fdt_cloexec(nc_fdt *fdt, int fd, int set) {
    struct nc_slot *slot = nc_fdt_slot(fdt, fd);
    if (!slot) return -EBADF;
    if (set >= 0) slot->cloexec = set != 0;
    return slot->cloexec;
}

/* What was injected is close-on-exec on the host, all of it. */
int nc_fdt_exec(nc_fdt *fdt) {
    fdt->crowded = 0;
    for (int fd = 0; fd < fdt->size; fd++) {
        fdt->slots[fd].injected = 0;
        if (fdt->slots[fd].file && fdt->slots[fd].cloexec) nc_fdt_close(fdt, fd);
    }
    return 0;
}

int nc_fdt_next(const nc_fdt *fdt, int fd) {
    for (int i = fd < 0 ? 0 : fd; i < fdt->size; i++)
        if (fdt->slots[i].file) return i;
    return -1;
}

int nc_fdt_crowd(nc_fdt *fdt) {
    fdt->crowded = 1;
    return 0;
}

int nc_fdt_count(const nc_fdt *fdt) {
    int count = 0;
    for (int i = 0; i < fdt->size; i++) count += fdt->slots[i].file != NULL;
    return count;
}

/* Numbers the table has places for; a power of two, as on Linux. */
int nc_fdt_size(const nc_fdt *fdt) { return fdt->size; }

int nc_fdt_set_limit(nc_fdt *fdt, int limit) {
    fdt->limit = limit;
    return 0;
}

int nc_fdt_set_locks(nc_fdt *fdt, int on) {
    fdt->locks = on;
    return 0;
}

int nc_fdt_set_fsize(nc_fdt *fdt, int on) {
    fdt->fsize = on;
    return 0;
}

int nc_fdt_stub(const nc_fdt *fdt) { return fdt->stub_fd; }

int nc_fdt_set_stub(nc_fdt *fdt, int fd) {
    fdt->stub_fd = fd;
    return 0;
}

/* The stub may sit at any number the guest does not map from. It moves upwards past such numbers; when the guest's host
 * limit is reached, it starts again from below. */
static int move_stub(nc_fdt *fdt, uint64_t id) {
    for (int pass = 0; pass < 2; pass++) {
        int fd = pass ? 0 : fdt->stub_fd + 1;
        for (int end = fd + fdt->size + 2; fd < end; fd++) {
            if (fd == fdt->stub_fd || nc_fdt_injected(fdt, fd)) continue;
            if (nc_addfd(id, nc_stub_memfd, fd, 0) < 0) break;
            fdt->stub_fd = fd;
            return 0;
        }
    }
    return -EMFILE;
}

int nc_fdt_inject(nc_fdt *fdt, uint64_t id, int host_fd, int fd) {
    if (!nc_fdt_slot(fdt, fd)) return -EBADF;
    if (fd == fdt->stub_fd) {
        int error = move_stub(fdt, id);
        if (error) return error;
    }
    int put = nc_addfd(id, host_fd, fd, 1);
    if (put < 0) return put;
    fdt->slots[fd].injected = 1;
    return 0;
}

/* Takes back what was injected at `fd`, which has just been closed. 0: there is only one thread, and it may let the host do
 * it. Of several, another may have a new file at that number, and map it, before the host gets to run this one's close. */
int nc_fdt_uninject(nc_fdt *fdt, uint64_t id, int fd) {
    fdt->slots[fd].injected = 0;
    if (fdt->refs <= ALONE && !fdt->crowded) return 0;
    nc_addfd(id, nc_stub_memfd, fd, 1);
    return 1;
}

int nc_fdt_injected(const nc_fdt *fdt, int fd) {
    return (uint32_t)fd < (uint32_t)fdt->size && fdt->slots[fd].injected;
}

int nc_fdt_spare(const nc_fdt *fdt, int below) {
    for (int fd = below - 1; fd >= 0; fd--)
        if (fd != fdt->stub_fd && !nc_fdt_slot(fdt, fd) && !nc_fdt_injected(fdt, fd)) return fd;
    return -1;
}
