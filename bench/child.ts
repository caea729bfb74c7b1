/** A child process that answers each command with one message. It ends with this process. */
import { type ChildProcess, fork } from 'node:child_process';

type Answer<Result> = { result: Result } | { error: string };

export class Child implements AsyncDisposable {
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess) {
    this.#process = process;
  }

  static async start(program: 'writer' | 'consumer', execArgv: string[] = []): Promise<Child> {
    const child = new Child(
      fork(new URL(`${program}.js`, import.meta.url), { execArgv, serialization: 'advanced' }),
    );
    await child.#answer();
    return child;
  }

  ask<Result>(command: object): Promise<Result> {
    const answer = this.#answer<Result>();
    this.#process.send(command);
    return answer;
  }

  #answer<Result>(): Promise<Result> {
    return new Promise((resolve, reject) => {
      const exit = () => reject(new Error('the child process exited'));
      this.#process.once('exit', exit);
      this.#process.once('message', (answer: Answer<Result>) => {
        this.#process.off('exit', exit);
        if ('error' in answer) reject(new Error(answer.error));
        else resolve(answer.result);
      });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exited = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.disconnect();
    await exited;
  }
}
