/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tear LOG FILE: tells, from inside of a guest, a memory that is of one instant from one that is not. See tear.mjs.
 *
 * Every page that is written says which pass of which thread wrote it, in each of its words; a thread looks at the old
 * contents of a page before it writes the next ones. So a single lost store of any page is found within one pass, whatever
 * is done with the guest between two instructions. Pages are written whole and here and there, fast and seldom; others
 * come and go with processes, which makes page tables; blocks of a file are written past every cache, and must be what
 * memory says they are. LOG gets what is wrong, LOG.now ten times a second how much there was and what has been done.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096u
#define WORDS (PAGE / 8)
#define BLOCKS 80u
#define CHURN 256u

struct area {
	unsigned int pages, words;	/* so many of each page */
	volatile uint64_t *mem;
	_Atomic uint64_t pass;
};
static struct area areas[] = { { 1500, WORDS, NULL, 0 }, { 4000, 1, NULL, 0 }, { 500, 64, NULL, 0 }, { 40, 8, NULL, 0 } };
#define AREAS (sizeof(areas) / sizeof(areas[0]))

static _Atomic uint64_t wrong, churned, disked;
static const char *log_file, *disk_file;

static uint64_t mark(uint64_t who, uint64_t pass, unsigned int page, unsigned int word)
{
	uint64_t x = who * 0x9e3779b97f4a7c15u ^ (pass + 0x7f4a7c15u) * 0xbf58476d1ce4e5b9u ^
		     ((uint64_t)page << 16 | word) * 0x94d049bb133111ebu;

	return x ^ x >> 29;
}

static void check(const char *what, unsigned int page, unsigned int word, uint64_t pass, uint64_t is, uint64_t must)
{
	char line[200];
	int fd;

	if (is == must || atomic_fetch_add(&wrong, 1) > 20)
		return;
	fd = open(log_file, O_WRONLY | O_CREAT | O_APPEND, 0644);
	snprintf(line, sizeof(line), "%s page %u word %u pass %llu: %016llx, not %016llx\n", what, page, word,
		 (unsigned long long)pass, (unsigned long long)is, (unsigned long long)must);
	if (fd < 0 || write(fd, line, strlen(line)) < 0)
		abort();
	close(fd);
}

_Noreturn static void *writer(void *arg)
{
	struct area *a = arg;
	uint64_t who = (uint64_t)(a - areas) + 1;

	for (uint64_t pass = 1;; pass++) {
		for (unsigned int p = 0; p < a->pages; p++) {
			for (unsigned int k = 0; k < a->words; k++) {
				unsigned int w = (k * (WORDS / a->words) + (p & 7)) % WORDS;
				volatile uint64_t *at = a->mem + (size_t)p * WORDS + w;

				check("memory", p, w, pass, *at, pass == 1 ? 0 : mark(who, pass - 1, p, w));
				*at = mark(who, pass, p, w);
			}
		}
		atomic_store(&a->pass, pass);
	}
}

_Noreturn static void *disk(void *arg)
{
	uint64_t *b = aligned_alloc(PAGE, PAGE);
	int fd = open(disk_file, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);

	(void)arg;
	check("open", 0, 0, 0, fd >= 0, 1);
	for (uint64_t pass = 1;; pass++) {
		for (unsigned int p = 0; p < BLOCKS; p++) {
			if (pass > 1)
				check("read", p, 0, pass, (uint64_t)pread(fd, b, PAGE, (off_t)p * PAGE), PAGE);
			for (unsigned int w = 0; w < WORDS; w++) {
				if (pass > 1)
					check("disk", p, w, pass, b[w], mark(99, pass - 1, p, w));
				b[w] = mark(99, pass, p, w);
			}
			check("write", p, 0, pass, (uint64_t)pwrite(fd, b, PAGE, (off_t)p * PAGE), PAGE);
			usleep(100);
		}
		atomic_store(&disked, pass);
	}
}

static void churn_child(volatile uint64_t *m, uint64_t round)
{
	for (unsigned int p = 0; p < CHURN; p++) {
		check("inherited", p, 5, round, m[p * WORDS + 5], mark(98, round, p, 5));
		m[p * WORDS + 5] = 1;
	}
	if (round % 4 == 0)
		execl("/bin/true", "true", (char *)NULL);
	_exit(0);
}

_Noreturn static void *churn(void *arg)
{
	(void)arg;
	for (uint64_t round = 1;; round++) {
		volatile uint64_t *m = mmap(NULL, CHURN * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		int status = -1;
		pid_t child;

		for (unsigned int p = 0; p < CHURN; p++) {
			check("fresh", p, 5, round, m[p * WORDS + 5], 0);
			m[p * WORDS + 5] = mark(98, round, p, 5);
		}
		child = fork();
		if (child == 0)
			churn_child(m, round);
		check("child", 0, 0, round, (uint64_t)waitpid(child, &status, 0), (uint64_t)child);
		check("its end", 0, 0, round, (uint64_t)status, 0);
		for (unsigned int p = 0; p < CHURN; p++)
			check("kept", p, 5, round, m[p * WORDS + 5], mark(98, round, p, 5));
		munmap((void *)(uintptr_t)m, CHURN * PAGE);
		atomic_store(&churned, round);
	}
}

static void report(void)
{
	char now[300], new[310], line[300];
	size_t n;
	FILE *f;

	snprintf(now, sizeof(now), "%s.now", log_file);
	snprintf(new, sizeof(new), "%s.new", now);
	n = (size_t)snprintf(line, sizeof(line), "%llu %llu %llu", (unsigned long long)wrong, (unsigned long long)churned,
			     (unsigned long long)disked);
	for (size_t i = 0; i < AREAS; i++)
		n += (size_t)snprintf(line + n, sizeof(line) - n, " %llu", (unsigned long long)areas[i].pass);
	f = fopen(new, "w");
	if (!f || fprintf(f, "%s\n", line) < 0 || fclose(f) != 0)
		abort();
	rename(new, now);
}

int main(int argc, char **argv)
{
	pthread_t t;

	if (argc != 3)
		return 2;
	log_file = argv[1];
	disk_file = argv[2];
	for (size_t i = 0; i < AREAS; i++) {
		areas[i].mem = mmap(NULL, (size_t)areas[i].pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		pthread_create(&t, NULL, writer, &areas[i]);
	}
	pthread_create(&t, NULL, disk, NULL);
	pthread_create(&t, NULL, churn, NULL);
	for (;; usleep(100000))
		report();
}
