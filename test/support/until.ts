/** Waits until the condition holds. */
export async function until(
  condition: () => unknown,
  timeoutMs = 20_000,
  describe: () => string = () => String(condition),
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${describe()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
