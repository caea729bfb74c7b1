import { spawn } from 'node:child_process';
import { once } from 'node:events';

export interface Guard {
  /** Runs the command now and waits until it is done. */
  run(): Promise<void>;
  /** Gives up guarding; the command never runs. */
  cancel(): void;
}

/**
 * Runs a shell command as soon as this process is gone, however it goes: exception, signal, even SIGKILL, which
 * no exit handler survives. The guard is a shell of its own that reads from a pipe only we hold open.
 */
export function whenThisProcessDies(command: string, ...args: string[]): Guard {
  const shell = spawn('/bin/sh', ['-c', `read -r _ && exit; ${command}`, 'guard', ...args], {
    cwd: '/',
    detached: true, // out of our process group: Ctrl-C must not reach it before it has done its work
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  const done = once(shell, 'exit');
  shell.unref();
  return {
    async run() {
      shell.ref();
      shell.stdin.end();
      await done;
    },
    cancel() {
      shell.stdin.end('cancel\n');
    },
  };
}
