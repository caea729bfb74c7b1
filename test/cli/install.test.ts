import { describe, expect, it } from 'vitest';
import { createRole } from '../support/database.ts';
import { setupCommands } from './commands.ts';

describe('install', () => {
  it('installs what the role may install, and tells what is left out', async () => {
    const { database, run } = await setupCommands();
    const { role, url } = await createRole(database);
    await database.query(
      `GRANT CREATE ON DATABASE ${database.name} TO ${role}; GRANT TRIGGER ON orders TO ${role}`,
    );
    const args = ['install', '--name', 'x', '--connection-string', url];
    const { code, out } = await run(args);
    expect(code).toBe(3);
    expect(out).toMatch(/^watched +1 table: orders$/m);
    expect(out).toMatch(/^left out +lines: it belongs to postgres/m);
    const report = JSON.parse((await run([...args, '--json'])).out);
    expect(report).toMatchObject({ watched: ['orders'], unwatchable: [{ table: 'lines' }], pending: [] });
  });
});
