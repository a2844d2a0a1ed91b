/*
 * Gives back memory that a clone's guest has freed, without touching the snapshot.
 *
 * QEMU returns pages (balloon, free-page reporting) by punching a hole into the file that guest memory is mapped
 * from: system/physmem.c (7.2: softmmu/physmem.c), ram_block_discard_range. A clone maps its snapshot's file
 * privately, so the hole would be in the snapshot. Preloaded into QEMU by ld.so(8), this library drops the process's
 * own pages where the snapshot has a hole already. Elsewhere it puts fresh anonymous memory over that part of the
 * mapping, which is what Firecracker does (src/vmm/src/vstate/memory.rs). Either way the pages are gone, and the guest
 * finds zeros there.
 *
 * SPORELET_PRIVATE_MEMORY names the file. fallocate(2) never reaches it from this process: what cannot be replaced
 * is refused, and QEMU then keeps the page. Other files are not affected. System calls are made without libc's
 * wrappers: those are what is replaced here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(off_t) == 8 && sizeof(void *) == 8, "mmap64 and mmap are the same for 64 bits only");

/* Set before main(), then only read. */
static struct {
	bool named;
	dev_t dev;
	ino_t ino;
} memory;

/*
 * A process may have 65,530 mappings (vm.max_map_count), and QEMU ends when it cannot have one more. Each piece of
 * anonymous memory is one, and makes two of what it is put into.
 */
enum { MAX_PIECES = 16384 };
static atomic_int pieces;

/* Where the file is mapped privately. QEMU maps it once, before any guest runs. */
static atomic_int mappings;
static struct {
	char *start;
	off_t offset;
	off_t bytes;
} mapping;

__attribute__((constructor)) static void name_memory(void)
{
	const char *path = getenv("SPORELET_PRIVATE_MEMORY");
	struct stat file;

	if (path == NULL)
		return;
	if (stat(path, &file) != 0) {
		dprintf(STDERR_FILENO, "private-discard: %s: %s\n", path, strerror(errno));
		_exit(1);
	}
	memory.dev = file.st_dev;
	memory.ino = file.st_ino;
	memory.named = true;
}

static bool is_memory(int fd)
{
	int before = errno;
	struct stat file;
	bool same = memory.named && fd >= 0 && fstat(fd, &file) == 0 && file.st_dev == memory.dev &&
		    file.st_ino == memory.ino;

	errno = before;
	return same;
}

void *mmap64(void *address, size_t bytes, int protection, int flags, int fd, off64_t offset)
{
	void *start = (void *)syscall(SYS_mmap, address, bytes, protection, flags, fd, offset);

	if (start != MAP_FAILED && !(flags & MAP_ANONYMOUS) && is_memory(fd)) {
		mapping.start = start;
		mapping.offset = offset;
		mapping.bytes = (off_t)bytes;
		/* A shared one shows holes in the file, and with two of them there are two places to replace. */
		atomic_fetch_add(&mappings, (flags & MAP_TYPE) == MAP_PRIVATE ? 1 : 2);
	}
	return start;
}

static int refused(int error)
{
	errno = error;
	return -1;
}

static bool is_hole(int fd, off_t offset, off_t bytes)
{
	/* The position of this file is nobody's concern: it is mapped. ENXIO: there is no data up to its end. */
	off_t data = lseek(fd, offset, SEEK_DATA);

	return data >= 0 ? data >= offset + bytes : errno == ENXIO;
}

int fallocate64(int fd, int mode, off64_t offset, off64_t bytes)
{
	char *start;

	if (!is_memory(fd))
		return (int)syscall(SYS_fallocate, fd, mode, offset, bytes);
	if (mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) || atomic_load(&mappings) != 1)
		return refused(EOPNOTSUPP);
	if (bytes <= 0 || offset < mapping.offset || bytes > mapping.bytes ||
	    offset - mapping.offset > mapping.bytes - bytes)
		return refused(EINVAL);
	start = mapping.start + (offset - mapping.offset);
	if (is_hole(fd, offset, bytes))
		return madvise(start, (size_t)bytes, MADV_DONTNEED);
	if (atomic_fetch_add(&pieces, 1) >= MAX_PIECES) {
		atomic_fetch_sub(&pieces, 1);
		return refused(ENOMEM);
	}
	/* MAP_FIXED replaces in one step: whoever touches the page meanwhile sees the old one or zeros. */
	if (mmap64(start, (size_t)bytes, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		return -1;
	return 0;
}

void *mmap(void *, size_t, int, int, int, off_t) __attribute__((alias("mmap64")));
int fallocate(int, int, off_t, off_t) __attribute__((alias("fallocate64")));
