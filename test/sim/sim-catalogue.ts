/**
 * The hub's catalogue on a simulated host: the real one, on an SQLite database in memory. When its process ends in any way,
 * the next one finds what was committed, or what was there when this one began, or nothing.
 */
import { type Catalogue, openSqliteCatalogue } from '@rephub/hub';
import { type Platform } from '@rephub/platform';
import { type SeededRandomness } from '@rephub/platform/sim';
import Database from 'better-sqlite3';

/** What the next start finds. */
export type CatalogueFate = 'kept' | 'rolled-back' | 'lost';

/** A row of `groups`, with what the other tables have of it. */
export interface CataloguedGroup {
  readonly name: string;
  readonly line: string | null;
  readonly owner: string | null;
  readonly lastNumber: number;
  readonly volumes: readonly string[];
  readonly segments: readonly string[];
  readonly lines: readonly string[];
  readonly openTests: readonly string[];
}

export class SimCatalogue {
  readonly #random: SeededRandomness;
  readonly #tell: (what: string) => void;
  /** The file as the last process left it. */
  #image: Buffer | null = null;
  /** As the one that is open found it. */
  #before: Buffer | null = null;
  #database: Database.Database | null = null;
  #catalogue: Catalogue | null = null;

  constructor(random: SeededRandomness, tell: (what: string) => void) {
    this.#random = random;
    this.#tell = tell;
  }

  async open({ clock, files }: Platform, path: string): Promise<Catalogue> {
    this.#close();
    this.#before = this.#image;
    const catalogue = await openSqliteCatalogue({
      clock,
      files,
      path,
      connect: () => (this.#database = new Database(this.#image ?? ':memory:')),
      trouble: (event, message) => {
        this.#tell(`hub: ${event}: ${message}`);
        void Promise.reject(new Error(`hub: ${event}: ${message}`));
      },
    });
    this.#catalogue = catalogue;
    return catalogue;
  }

  /** Its process has gone. */
  died(): CatalogueFate {
    this.#close();
    const drawn = this.#random.fraction();
    if (drawn < 0.5) return 'kept';
    this.#image = drawn < 0.8 ? this.#before : null;
    const fate = drawn < 0.8 ? 'rolled-back' : 'lost';
    this.#tell(`hub: its catalogue is ${fate}`);
    return fate;
  }

  /** What it says by now; null while it is not open. */
  read(): readonly CataloguedGroup[] | null {
    this.#catalogue?.flush();
    const database = this.#database;
    if (database?.open !== true) return null;
    const names = (sql: string, group: string): string[] => database.prepare(sql).pluck().all(group) as string[];
    const groups = database.prepare('SELECT name, line, owner, last_number FROM groups ORDER BY name').all() as {
      readonly name: string;
      readonly line: string | null;
      readonly owner: string | null;
      readonly last_number: number;
    }[];
    return groups.map(({ name, line, owner, last_number }) => ({
      name,
      line,
      owner,
      lastNumber: last_number,
      volumes: names('SELECT name FROM volumes WHERE group_name = ? ORDER BY number', name),
      segments: names("SELECT line || '/' || file FROM segments WHERE group_name = ? ORDER BY 1", name),
      lines: names('SELECT line FROM generations WHERE group_name = ? ORDER BY 1', name),
      openTests: names('SELECT name FROM tests WHERE group_name = ? AND ended_ms IS NULL ORDER BY 1', name),
    }));
  }

  #close(): void {
    if (this.#database?.open === true) {
      this.#image = this.#database.serialize();
      this.#database.close();
    }
    this.#database = null;
    this.#catalogue = null;
  }
}
