/* ptrace.c's part of the loop. */
#pragma once

/* Answers stops that need no decision (a fresh child's first stop, a host kernel's signal to a task that runs,
 * a group stop). Returns 1 when the task runs or listens again, 0 when Python must look. */
int nc_stop_answered(int tid, int status);
