import type { TestProject } from 'vitest/node';
import { startServer } from './server.ts';

declare module 'vitest' {
  interface ProvidedContext {
    adminUrl: string;
  }
}

/** One server for the whole run: the one at TEST_DB_URL, or one of our own. */
export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const existing = process.env['TEST_DB_URL'];
  if (existing) {
    project.provide('adminUrl', existing);
    return undefined;
  }
  const server = await startServer();
  project.provide('adminUrl', server.url());
  return async () => server[Symbol.asyncDispose]();
}
