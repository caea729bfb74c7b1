import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { newPostgresInput } from '../../src/index.ts';
import { setup } from './support.ts';

describe('uninstall', () => {
  it('tell who is active, and do not remove what is in use', async () => {
    const { database, run, runJson, internalObjects } = await setup();
    const config = { name: 'x', type: 'postgres', connectionString: database.url };
    await using input = await newPostgresInput(config, { connectTimeout: 10_000 });
    const active = once(input as never, 'active');
    const ended = input.handle().next();
    await active;
    const { lease } = await runJson('status', '--name', 'x');
    expect(lease).toEqual({
      holder: expect.any(String),
      fencingToken: '1',
      acquiredAt: expect.stringMatching(/^\d{4}-.*Z$/),
    });
    expect((await run(['status', '--name', 'x'])).out).toContain(
      `node ${lease.holder} since ${lease.acquiredAt}`,
    );
    expect((await run(['doctor', '--name', 'x'])).code).toBe(0);

    const refused = await run(['uninstall', '--name', 'x']);
    expect(refused.code).toBe(1);
    expect(refused.err).toContain('end it first');
    expect(await internalObjects()).not.toEqual([]);
    await input.close();
    await ended;
    expect((await run(['uninstall', '--name', 'x'])).code).toBe(0);
  });
});
