/*
 * What User Mode Linux 6.1 does not do by itself to the processes that it traces: loaded into it with LD_PRELOAD by scripts/vm-test.
 *
 * Registers. It saves and restores the extended ones with ptrace(2), in a buffer of a fixed size. Linux takes them back only whole
 * (xstateregs_set(), EFAULT where they are fewer bytes), and with AMX they are 11 KiB. So what UML leaves out is read from the
 * process first. Nothing in the guest uses AMX, which has to be asked for.
 *
 * Job control. A process that is stopped by a signal that UML has not sent is killed by it, the guest's PID 1 too: by ^Z on the
 * terminal, or by whoever stops all that runs for a while and lets it go on. Such a signal is passed over.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

typedef long (*ptrace_function)(int, pid_t, void *, void *);
typedef pid_t (*waitpid_function)(pid_t, int *, int);

/* <linux/ptrace.h> does not go with <sys/ptrace.h>, whose names for these glibc has had since 2.27. */
#define RESUMES(request) \
	((request) == PTRACE_CONT || (request) == PTRACE_SYSCALL || (request) == PTRACE_SINGLESTEP || \
	 (request) == (int)PTRACE_SYSEMU || (request) == (int)PTRACE_SYSEMU_SINGLESTEP)

/* Static: stacks of UML are small, and one thread of it alone handles its processes, one at a time. */
static char whole[1 << 16];
static int are_cut_off;
/* What let which process go on last. */
static int resumed_by;
static pid_t resumed;
static ptrace_function next_ptrace;

static long set_registers(pid_t pid, void *kind, struct iovec *given)
{
	struct iovec all = { whole, sizeof(whole) };
	long result;

	if (!are_cut_off) {
		result = next_ptrace(PTRACE_SETREGSET, pid, kind, given);
		if (result == 0 || errno != EFAULT)
			return result;
	}
	if (next_ptrace(PTRACE_GETREGSET, pid, kind, &all) < 0)
		return -1;
	if (given->iov_len > all.iov_len) {
		errno = EFAULT;
		return -1;
	}
	are_cut_off = 1;
	memcpy(whole, given->iov_base, given->iov_len);
	return next_ptrace(PTRACE_SETREGSET, pid, kind, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
	void *address, *data;
	va_list rest;
	pid_t pid;

	va_start(rest, request);
	pid = va_arg(rest, pid_t);
	address = va_arg(rest, void *);
	data = va_arg(rest, void *);
	va_end(rest);
	if (!next_ptrace)
		next_ptrace = (ptrace_function)dlsym(RTLD_NEXT, "ptrace");
	if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE)
		return set_registers(pid, address, data);
	if (RESUMES((int)request)) {
		resumed_by = (int)request;
		resumed = pid;
	}
	return next_ptrace(request, pid, address, data);
}

/* UML's own SIGSTOP is that of a process which it has not let go on yet. */
static int is_job_control(pid_t pid, int status)
{
	int signal = WIFSTOPPED(status) ? WSTOPSIG(status) : 0;

	if (pid <= 0 || pid != resumed)
		return 0;
	return signal == SIGCONT || signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

pid_t waitpid(pid_t pid, int *status, int options)
{
	static waitpid_function next;
	pid_t found;

	if (!next)
		next = (waitpid_function)dlsym(RTLD_NEXT, "waitpid");
	do
		found = next(pid, status, options);
	while (status && is_job_control(found, *status) && next_ptrace(resumed_by, found, 0, 0) == 0);
	return found;
}
