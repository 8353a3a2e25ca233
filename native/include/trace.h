/* ptrace.c's part of the loop. */
#pragma once

/* Answers stops that need no decision (a fresh child's first stop, a host kernel's signal to a task that runs,
 * a group stop). Returns 1 when the task runs or listens again, 0 when Python must look. */
int nc_stop_answered(int tid, int status);

/* Adds to a stop what Python would have to ask for: the event message in id (a child's tid, the former tid of an exec), and
 * in args[0] the clone flags of a fork event or the call number at a seccomp stop. */
void nc_stop_details(struct nc_event *ev);
