/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a program and returns what it wrote, for tests; no shell. */
#ifndef DECLAW_TESTS_CMD_H
#define DECLAW_TESTS_CMD_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Standard output, malloc'ed; NULL when the program could not run or failed. */
static inline char *cmd_output(const char *const argv[])
{
	char *text = NULL;
	size_t size = 0;
	int fds[2], status = 0, c;
	pid_t p;
	FILE *in, *out;

	if (pipe(fds) < 0)
		return NULL;
	fflush(NULL);
	p = fork();
	if (p == 0) {
		dup2(fds[1], STDOUT_FILENO);
		close(fds[0]);
		close(fds[1]);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(fds[1]);
	in = fdopen(fds[0], "r");
	out = open_memstream(&text, &size);
	while (in && out && (c = getc(in)) != EOF)
		putc(c, out);
	if (in)
		fclose(in);
	if (out)
		fclose(out);
	if (p < 0 || waitpid(p, &status, 0) < 0 || status != 0) {
		free(text);
		return NULL;
	}
	return text;
}

#define CMD(...) cmd_output((const char *const[]) { __VA_ARGS__, NULL })

/* True when it succeeded. */
static inline int cmd_ok(const char *const argv[])
{
	char *s = cmd_output(argv);
	int good = s != NULL;

	free(s);
	return good;
}

#define CMD_OK(...) cmd_ok((const char *const[]) { __VA_ARGS__, NULL })

#endif
