/** What a process says of errors that nobody handles: the warnings that were emitted, and the rejections that had no handler. */
import { onTestFinished, vi } from 'vitest';

/** Until the test has finished. Warnings are not printed. */
export function watchWarnings() {
  const warn = vi.spyOn(process, 'emitWarning').mockReturnValue();
  onTestFinished(() => warn.mockRestore());
  const unhandled: unknown[] = [];
  const note = (reason: unknown) => void unhandled.push(reason);
  process.on('unhandledRejection', note);
  onTestFinished(() => void process.off('unhandledRejection', note));
  return { warn, unhandled };
}
