import knex, { type Knex } from 'knex';
import { DataSource, EntitySchema, type MigrationInterface, type QueryRunner } from 'typeorm';
import { expect, test } from 'vitest';
import { type TestDatabase, createRole } from '../support/database.ts';
import { setupInstallation } from '../support/setup-installation.ts';
import { setupTwoDatabases } from '../support/setup-two-databases.ts';

/** Pools end before their database is dropped. */
const atTheEnd = (close: () => Promise<void>): AsyncDisposable => ({ [Symbol.asyncDispose]: close });

test('Knex migrates, writes and takes back as it does without us', { timeout: 90_000 }, async () => {
  await using fixture = await setupTwoDatabases('');
  const connections = new Map<TestDatabase, Knex>();
  for (const database of [fixture.watched, fixture.plain]) {
    const connection = knex({ client: 'pg', connection: database.url, pool: { min: 0, max: 2 } });
    connections.set(database, connection);
  }
  await using _ = atTheEnd(async () => {
    for (const connection of connections.values()) await connection.destroy();
  });
  const both = <Result>(work: (k: Knex) => Promise<Result>) =>
    fixture.both((database) => work(connections.get(database)!));
  const expectEvents = async (...expected: string[]) =>
    expect(await fixture.events(expected.length)).toEqual(expected.toSorted());

  const [libraryV1, libraryV2] = [
    {
      name: 'library_v1',
      async up(k: Knex) {
        await k.schema.createTable('authors', (table) => {
          table.increments('id');
          table.string('name').notNullable().unique();
          table.integer('books').notNullable().defaultTo(0);
          table.timestamps(true, true);
        });
        await k.schema.createTable('books', (table) => {
          table.uuid('id').primary();
          table.integer('author_id').references('authors.id').onDelete('CASCADE');
          table.text('title').notNullable();
          table.jsonb('meta');
        });
        await k.schema.createTable('book_tags', (table) => {
          table.uuid('book_id').references('books.id').onDelete('CASCADE');
          table.string('tag', 40);
          table.primary(['book_id', 'tag']);
        });
        await k.schema.createTable('audit', (table) => {
          table.text('what');
        });
      },
      async down(k: Knex) {
        for (const name of ['audit', 'book_tags', 'books', 'authors']) await k.schema.dropTable(name);
      },
    },
    {
      name: 'library_v2',
      async up(k: Knex) {
        await k.schema.alterTable('books', (table) => {
          table.renameColumn('id', 'isbn');
          table.integer('pages').notNullable().defaultTo(0);
        });
        await k.schema.alterTable('authors', (table) => {
          table.bigInteger('id').alter({ alterNullable: false });
        });
        await k.schema.renameTable('audit', 'journal');
        await k('books').update({ pages: 100 });
        await k.schema.createTable('reviews', (table) => {
          table.text('slug').primary();
          table.uuid('isbn').references('books.isbn').onDelete('SET NULL');
        });
      },
      async down(k: Knex) {
        await k.schema.dropTable('reviews');
        await k.schema.renameTable('journal', 'audit');
        await k.schema.alterTable('authors', (table) => {
          table.integer('id').alter({ alterNullable: false });
        });
        await k.schema.alterTable('books', (table) => {
          table.dropColumn('pages');
          table.renameColumn('isbn', 'id');
        });
      },
    },
  ] as const;
  type Version = typeof libraryV1 | typeof libraryV2;
  const upTo = (...versions: Version[]): Knex.MigratorConfig => ({
    migrationSource: {
      getMigrations: async () => versions,
      getMigrationName: ({ name }: Version) => name,
      getMigration: async (version: Version) => version,
    },
  });

  const [emma, persuasion, ulysses] = [1, 2, 3].map((n) => `00000000-0000-4000-8000-00000000000${n}`) as [
    string,
    string,
    string,
  ];
  expect(await both((k) => k.migrate.latest(upTo(libraryV1)))).toEqual([1, ['library_v1']]);
  await fixture.untilWatched(
    'authors',
    'books',
    'book_tags',
    'audit',
    'knex_migrations',
    'knex_migrations_lock',
  );

  await fixture.drain();

  expect(
    await both((k) =>
      k('authors')
        .insert([{ name: 'Austen' }, { name: 'Joyce' }])
        .returning(['id', 'name']),
    ),
  ).toEqual([
    { id: 1, name: 'Austen' },
    { id: 2, name: 'Joyce' },
  ]);
  await expectEvents('authors create 1', 'authors create 2');

  await both((k) =>
    k.batchInsert(
      'books',
      [
        { id: emma, author_id: 1, title: 'Emma', meta: { year: 1815 } },
        { id: persuasion, author_id: 1, title: 'Persuasion' },
        { id: ulysses, author_id: 2, title: 'Ulysses' },
      ],
      2,
    ),
  );
  await expectEvents(`books create ${emma}`, `books create ${persuasion}`, `books create ${ulysses}`);

  await both((k) =>
    k.transaction(async (transaction) => {
      await transaction('authors').where({ id: 1 }).increment('books', 2);
      await transaction
        .transaction(async (savepoint) => {
          await savepoint('books').del();
          throw new Error('no');
        })
        .catch(() => {});
      return transaction('book_tags').insert([
        { book_id: emma, tag: 'novel' },
        { book_id: ulysses, tag: 'novel' },
        { book_id: ulysses, tag: "it's long" },
      ]);
    }),
  );
  await expectEvents(
    'authors update 1',
    `book_tags create ["${emma}","novel"]`,
    `book_tags create ["${ulysses}","novel"]`,
    `book_tags create ["${ulysses}","it's long"]`,
  );

  await both((k) =>
    k('authors')
      .insert([{ name: 'Woolf' }, { name: 'Joyce' }])
      .onConflict('name')
      .merge({ books: 1 })
      .returning('id'),
  );
  await expectEvents('authors create 3', 'authors update 2');

  await expect(both((k) => k('authors').insert({ name: 'Woolf' }))).rejects.toThrow('authors_name_unique');
  expect(
    await both((k) =>
      k('books')
        .join('authors', 'authors.id', 'author_id')
        .forUpdate()
        .skipLocked()
        .orderBy('title')
        .pluck('title'),
    ),
  ).toEqual(['Emma', 'Persuasion', 'Ulysses']);
  await both((k) => k('audit').insert([{ what: 'one' }, { what: 'two' }]));
  await expectEvents('audit create ', 'audit create ');

  // Altered while it is watched: a key's name and type, a table's name, all in one transaction with a change of every book.
  await both((k) => k.migrate.latest(upTo(libraryV1, libraryV2)));
  await expectEvents(
    'knex_migrations_lock update 1',
    `books update ${emma}`,
    `books update ${persuasion}`,
    `books update ${ulysses}`,
    'knex_migrations create 2',
    'knex_migrations_lock update 1',
  );
  await both((k) => k('books').where({ isbn: emma }).update({ pages: 474 }, ['isbn', 'pages']));
  await both((k) => k('authors').where({ name: 'Woolf' }).update({ name: 'V. Woolf' }));
  await both((k) => k('journal').insert({ what: 'three' }));
  await expectEvents(`books update ${emma}`, 'authors update 3', 'journal create ');
  await fixture.untilWatched('reviews', 'journal');

  await both((k) => k('reviews').insert({ slug: 'great', isbn: ulysses }));
  await both((k) => k('authors').where({ name: 'Joyce' }).del());
  await expectEvents(
    'reviews create great',
    'authors delete 2',
    `books delete ${ulysses}`,
    `book_tags delete ["${ulysses}","novel"]`,
    `book_tags delete ["${ulysses}","it's long"]`,
    'reviews update great',
  );

  expect(await both((k) => k.migrate.rollback(upTo(libraryV1, libraryV2)))).toEqual([2, ['library_v2']]);
  await expectEvents(
    'knex_migrations delete 2',
    'knex_migrations_lock update 1',
    'knex_migrations_lock update 1',
  );
  await both((k) => k('books').del());
  await both((k) => k('audit').truncate());
  await expectEvents(
    `books delete ${emma}`,
    `books delete ${persuasion}`,
    `book_tags delete ["${emma}","novel"]`,
    'audit delete *',
  );

  await fixture.expectNoMore();
  await fixture.expectSameContents();
});

interface User {
  id: number;
  name: string;
  version: number;
  posts: Post[];
}
interface Post {
  id: number;
  title: string;
  views: number;
  author: User;
  tags: Tag[];
  deletedAt: Date | null;
}
interface Tag {
  name: string;
}

const User = new EntitySchema<User>({
  name: 'User',
  tableName: 'users',
  columns: {
    id: { type: Number, primary: true, generated: true },
    name: { type: String, unique: true },
    version: { type: Number, version: true },
  },
  relations: { posts: { type: 'one-to-many', target: 'Post', inverseSide: 'author' } },
});
const Tag = new EntitySchema<Tag>({
  name: 'Tag',
  tableName: 'tags',
  columns: { name: { type: String, primary: true } },
});

/** The table was renamed by the second migration. */
const post = (tableName: string) =>
  new EntitySchema<Post>({
    name: 'Post',
    tableName,
    columns: {
      id: { type: Number, primary: true, generated: true },
      title: { type: String },
      views: { type: Number, default: 0 },
      deletedAt: { type: 'timestamptz', name: 'deleted_at', deleteDate: true, nullable: true },
    },
    relations: {
      author: {
        type: 'many-to-one',
        target: 'User',
        inverseSide: 'posts',
        cascade: true,
        joinColumn: { name: 'author_id' },
      },
      tags: {
        type: 'many-to-many',
        target: 'Tag',
        cascade: true,
        joinTable: {
          name: 'post_tags',
          joinColumn: { name: 'post_id' },
          inverseJoinColumn: { name: 'tag' },
        },
      },
    },
  });

class Blog1700000000001 implements MigrationInterface {
  async up(runner: QueryRunner) {
    await runner.query(
      `CREATE TABLE users (id SERIAL PRIMARY KEY, name varchar NOT NULL UNIQUE, version integer NOT NULL)`,
    );
    await runner.query(`CREATE TABLE posts (id SERIAL PRIMARY KEY, title varchar NOT NULL, views integer NOT NULL DEFAULT 0,
      deleted_at timestamptz, author_id integer REFERENCES users ON DELETE CASCADE)`);
    await runner.query(`CREATE TABLE tags (name varchar PRIMARY KEY)`);
    await runner.query(`CREATE TABLE post_tags (post_id integer REFERENCES posts ON DELETE CASCADE,
      tag varchar REFERENCES tags ON UPDATE CASCADE, PRIMARY KEY (post_id, tag))`);
  }
  async down(runner: QueryRunner) {
    await runner.query('DROP TABLE post_tags, tags, posts, users');
  }
}

class Articles1700000000002 implements MigrationInterface {
  async up(runner: QueryRunner) {
    await runner.renameTable('posts', 'articles');
    await runner.query('ALTER TABLE post_tags RENAME COLUMN tag TO tag_name');
    await runner.query('ALTER TABLE post_tags RENAME COLUMN tag_name TO tag');
    await runner.changeColumn(
      'users',
      'name',
      (await runner.getTable('users'))!.findColumnByName('name')!.clone(),
    );
    await runner.query(`UPDATE tags SET name = upper(name)`);
    await runner.query(`ALTER TABLE users ADD COLUMN email varchar DEFAULT 'nobody@example.org'`);
    await runner.query(`ALTER TABLE articles ALTER id TYPE bigint, ALTER views TYPE bigint`);
    await runner.query('UPDATE articles SET views = views + 1');
  }
  async down(runner: QueryRunner) {
    await runner.query(`ALTER TABLE articles ALTER id TYPE integer, ALTER views TYPE integer`);
    await runner.query('ALTER TABLE users DROP COLUMN email');
    await runner.query(`UPDATE tags SET name = lower(name)`);
    await runner.renameTable('articles', 'posts');
  }
}

test('TypeORM migrates, writes and takes back as it does without us', { timeout: 90_000 }, async () => {
  await using fixture = await setupTwoDatabases('');
  let sources = new Map<TestDatabase, DataSource>();
  async function connect(
    migrations: (typeof Blog1700000000001 | typeof Articles1700000000002)[],
    posts: string,
  ) {
    for (const source of sources.values()) await source.destroy();
    sources = new Map();
    for (const database of [fixture.watched, fixture.plain]) {
      const entities = [User, post(posts), Tag];
      const source = new DataSource({
        type: 'postgres',
        url: database.url,
        entities,
        migrations,
        poolSize: 2,
      });
      sources.set(database, await source.initialize());
    }
  }
  await using _ = atTheEnd(async () => {
    for (const source of sources.values()) await source.destroy();
  });
  const both = <Result>(work: (source: DataSource) => Promise<Result>) =>
    fixture.both((database) => work(sources.get(database)!));
  const expectEvents = async (...expected: string[]) =>
    expect(await fixture.events(expected.length)).toEqual(expected.toSorted());

  await connect([Blog1700000000001], 'posts');
  await both(async (source) => (await source.runMigrations()).map(({ name }) => name));
  await fixture.untilWatched('users', 'posts', 'tags', 'post_tags', 'migrations');
  await fixture.drain();

  await both((source) =>
    source.getRepository<Post>('Post').save({
      title: 'Hello',
      author: { name: 'Ann' },
      tags: [{ name: 'news' }, { name: 'tech' }],
    }),
  );
  await expectEvents(
    'users create 1',
    'posts create 1',
    'tags create news',
    'tags create tech',
    'post_tags create ["1","news"]',
    'post_tags create ["1","tech"]',
  );

  // What has changed is found out by reading, and written in a transaction.
  await both(async (source) => {
    const posts = source.getRepository<Post>('Post');
    const [hello] = await posts.find({ relations: { tags: true, author: true } });
    hello!.author.name = 'Anna';
    hello!.tags = [...hello!.tags.filter(({ name }) => name !== 'news'), { name: 'misc' }];
    return posts.save(hello!);
  });
  await expectEvents(
    'users update 1',
    'tags create misc',
    'post_tags delete ["1","news"]',
    'post_tags create ["1","misc"]',
  );

  await both((source) =>
    source.getRepository<User>('User').upsert([{ name: 'Anna' }, { name: 'Bob' }], ['name']),
  );
  await expectEvents('users update 1', 'users create 3');

  await both((source) => source.getRepository<Post>('Post').increment({ id: 1 }, 'views', 5));
  await both((source) =>
    source
      .createQueryBuilder()
      .update('Post')
      .set({ title: 'Hello again' })
      .where({ id: 1 })
      .returning(['title'])
      .execute(),
  );
  await expectEvents('posts update 1', 'posts update 1');

  await expect(
    both((source) =>
      source.transaction(async (manager) => {
        await manager.getRepository<Post>('Post').clear();
        await manager.getRepository<User>('User').insert({ name: 'Bob' });
      }),
    ),
  ).rejects.toThrow('cannot truncate');
  await expect(both((source) => source.getRepository<User>('User').insert({ name: 'Bob' }))).rejects.toThrow(
    'duplicate key',
  );

  await both(async (source) => {
    const posts = source.getRepository<Post>('Post');
    await posts.softDelete({ id: 1 });
    const visible = await posts.count();
    await posts.restore({ id: 1 });
    return [visible, await posts.count()];
  });
  await expectEvents('posts update 1', 'posts update 1');

  // Altered while it is watched, with changes of rows in the same transaction.
  await connect([Blog1700000000001, Articles1700000000002], 'articles');
  await both(async (source) => (await source.runMigrations()).map(({ name }) => name));
  const tags = ['misc', 'news', 'tech'];
  await expectEvents(
    ...tags.flatMap((tag) => [`tags delete ${tag}`, `tags create ${tag.toUpperCase()}`]),
    ...['misc', 'tech'].flatMap((tag) => [
      `post_tags delete ["1","${tag}"]`,
      `post_tags create ["1","${tag.toUpperCase()}"]`,
    ]),
    'articles update 1',
    'migrations create 2',
  );
  await both((source) =>
    source.getRepository<Post>('Post').save({ title: 'Second', author: { id: 3 }, tags: [{ name: 'NEWS' }] }),
  );
  await expectEvents('articles create 2', 'post_tags create ["2","NEWS"]');

  await both((source) => source.undoLastMigration());
  await expectEvents(
    'migrations delete 2',
    ...tags.flatMap((tag) => [`tags create ${tag}`, `tags delete ${tag.toUpperCase()}`]),
    ...['misc', 'tech'].flatMap((tag) => [
      `post_tags create ["1","${tag}"]`,
      `post_tags delete ["1","${tag.toUpperCase()}"]`,
    ]),
    'post_tags create ["2","news"]',
    'post_tags delete ["2","NEWS"]',
  );
  await connect([Blog1700000000001], 'posts');
  await both(async (source) => {
    const users = source.getRepository<User>('User');
    return users.remove(await users.find());
  });
  await expectEvents(
    'users delete 1',
    'users delete 3',
    'posts delete 1',
    'posts delete 2',
    'post_tags delete ["1","misc"]',
    'post_tags delete ["1","tech"]',
    'post_tags delete ["2","news"]',
  );
  await both((source) => source.undoLastMigration());
  await expectEvents('migrations delete 1');

  await fixture.expectNoMore();
  await fixture.expectSameContents();
});

test('an introspection lists the internal tables to a role that may use their schema, and to no other', async () => {
  const { database, names } = await setupInstallation('CREATE TABLE orders (id int PRIMARY KEY)');
  const listedTo = async (connectionString: string) => {
    const client = await database.client({ connectionString });
    // The conditions of Kysely's PostgresIntrospector.
    const { rows } = await client.query(`
      SELECT ns.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace ns ON ns.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'v', 'p', 'f') AND ns.nspname !~ '^pg_' AND ns.nspname <> 'information_schema'
        AND has_schema_privilege(ns.nspname, 'USAGE')`);
    return rows.map(({ name }): string => name).toSorted();
  };
  const internal = [
    names.lockTable,
    names.logTable,
    names.secretTable,
    names.failedTable,
    names.parkedTable,
    names.backfillTable,
  ].map(({ name }) => `postgres_input.${name}`);
  expect(await listedTo(database.url)).toEqual([...internal.toSorted(), 'public.orders']);
  const { url } = await createRole(database);
  expect(await listedTo(url)).toEqual(['public.orders']);
});
