import { expect, test } from 'vitest';
import { conditions } from '../../src/cli/doctor-check-conditions.ts';
import type { Patient } from '../../src/cli/doctor-finding.ts';
import { withSession } from '../../src/node/connect.ts';
import { setupInstallation } from '../support/setup-installation.ts';

test('doctor tells of a condition that fails for a row', async () => {
  const { database, settings } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY, n int)', {
    watch: { t: { when: '1 / after.n > 0' } },
  });
  const examined = () =>
    withSession(settings, async (session) => conditions({ session, settings } as unknown as Patient));
  expect(await examined()).toMatchObject([{ result: 'ok' }]);
  await database.query('INSERT INTO t VALUES (1, 1), (2, 0)');
  expect(await examined()).toMatchObject([{ result: 'problem', found: 'when of t fails: division by zero' }]);
});
