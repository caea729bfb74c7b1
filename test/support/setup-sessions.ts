/** Installs an input and opens sessions: for tests of one module that speaks to the server. README.md here compares the setups. */
import { TestRunner, onTestFinished } from 'vitest';
import { type Settings, parseConfig } from '../../src/config/settings.ts';
import type { PostgresInputOptions } from '../../src/index.ts';
import { Session } from '../../src/postgres/session.ts';
import { install } from '../../src/schema/install.ts';
import { type Names, namesOf } from '../../src/schema/names.ts';
import { PATIENT } from './consumer.ts';
import { type TestDatabase, createDatabase } from './database.ts';

/** A database in which an input named `test` is installed, and sessions on it. */
export interface SessionsFixture extends AsyncDisposable {
  readonly database: TestDatabase;
  readonly settings: Settings;
  readonly names: Names;
  session(options?: { url?: string; statementTimeout?: number }): Promise<Session>;
}

export async function setupSessions(options: PostgresInputOptions = {}): Promise<SessionsFixture> {
  const database = await createDatabase();
  await database.query('CREATE TABLE items (id int PRIMARY KEY, value int)');
  const sessions: Session[] = [];
  const settingsFor = (url: string) =>
    parseConfig({ name: 'test', type: 'postgres', connectionString: url }, { ...PATIENT, ...options });
  const settings = settingsFor(database.url);
  const names = namesOf(settings.id, settings.internalSchema);
  const fixture: SessionsFixture = {
    database,
    settings,
    names,
    async session({ url = database.url, statementTimeout = 20_000 } = {}) {
      const session = await Session.connect(settingsFor(url).target, {
        connectTimeout: 15_000,
        statementTimeout,
        applicationName: 'dapper-postgres-input test',
      });
      sessions.push(session);
      closeWithTest(session);
      return session;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(sessions.map((session) => session.close()));
      await database[Symbol.asyncDispose]();
    },
  };
  await install(await fixture.session(), settings, names);
  return fixture;
}

/** A file of many tests would else have more sessions than a server of few connections allows. */
function closeWithTest(session: Session): void {
  if (TestRunner.getCurrentTest()) onTestFinished(() => session.close());
}
