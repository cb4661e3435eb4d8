/**
 * DURABLE: what the hub has acknowledged as durable is there after a power cut at that very moment. TORN: what a cut tore is
 * never served, what was durable is never cut for damage. CORRUPT: damage at the hub is named while it lasts. FULL: a full disk stops acknowledgements, says why, and serves on. NODISCARD: a line that ended is kept.
 */
import { viewContents } from '../disk-contents.js';
import { type Ack, type Hello, type Line, type Verdict, type Welcome } from '@rephub/protocol';
import { asError } from '@rephub/platform';
import { type CrashFate, type SimFiles } from '@rephub/platform/sim';
import { type GroupStore } from '../hub-types.js';
import { findStore } from '../imagined.js';
import { type World } from '../world.js';
import { type Checker, type Crash } from './checker.js';

/** Every so many durable acknowledgements one is tried. */
const EVERY = 40;
const FATES: readonly CrashFate[] = ['lose', 'tear', 'garble', 'mixed'];

export class Durable implements Checker {
  readonly #world: World;
  #durable = 0;
  #line = '';
  #acks = 0;
  #tries = 0;
  #begunAnew = 0;
  #older = 0;
  #forgotten = 0;
  /** The last number when damage was named no more; Infinity before that, since something may have gone bad. */
  #soundFrom = Infinity;
  #lines = new Set<string>();
  /** Every damage that an agent was told of. */
  readonly #named = new Set<string>();
  /** The journal's files as a start would have left them after the hub's last crash; null when there was damage already. */
  #sound: Promise<Sizes | null> = Promise.resolve(null);

  constructor(world: World) {
    this.#world = world;
  }

  hubAcked({ durable, stalled }: Ack): void {
    this.#forgetOld();
    if (stalled === 'disk-full') {
      this.#world.coverage.happened('disk-full');
      this.#world.check('FULL', this.#world.group?.status().state !== 'protected', () => {
        return 'the hub takes nothing for want of room, and calls the group protected';
      });
    }
    // Sent to a process that is gone, maybe to make way for another line: nobody has heard it, and counts on it.
    if (this.#world.agent.up === null) return;
    if (!this.#isNew(durable)) return;
    this.#acks += 1;
    if (this.#acks % EVERY === 0) this.#imagine(`right after the acknowledgement of ${durable}`);
  }

  /** What a hub tells that it holds it need not acknowledge any more. */
  verdict(_verdict: Verdict, _hello: Hello, { group }: Welcome): void {
    this.#forgetOld();
    // Only a session brings again what is missing.
    const { corrupted } = this.#world.store?.state ?? {};
    if (typeof corrupted === 'string') this.#named.add(corrupted);
    if (group === null || this.#world.hub.up === null || group.line.id !== this.#world.store?.state.line?.id) return;
    if (this.#isNew(group.lastNumber)) this.#imagine(`right after the handshake at ${group.lastNumber}`);
  }

  /** More than was known to be durable; now it is. */
  #isNew(durable: number): boolean {
    const line = this.#world.store?.state.line?.id ?? '';
    // Another line has numbers of its own.
    if (line !== this.#line) this.#durable = 0;
    this.#line = line;
    if (durable <= this.#durable) return false;
    this.#durable = durable;
    return true;
  }

  #imagine(when: string): void {
    // What a start would find then is damaged.
    if (this.#world.excuses.hubRotUnseen) return;
    this.#tries += 1;
    const fate = FATES[this.#tries % FATES.length] ?? 'mixed';
    const seed = this.#world.setup.seed * 100 + this.#tries;
    const files = this.#world.hub.files.imagineCrash({ seed, fate });
    void this.#judge(files, fate, `an imagined power cut ${when}, fate ${fate}`);
  }

  crashed({ who, fate }: Crash): void {
    if (who !== 'hub') return;
    this.#forgetOld();
    const files = this.#world.hub.files.imagineCrash({ seed: 1, fate: 'keep' });
    this.#sound = this.#judge(files, fate, `a crash of the hub, fate ${fate}`).then((state) =>
      state?.corrupted === null ? sizesOf(files) : null,
    );
  }

  hubRotted(): void {
    void this.#cutsNothing(this.#world.hub.files.imagineCrash({ seed: 1, fate: 'keep' }), this.#sound);
  }

  /**
   * What is bad above all that is known to be durable is taken for torn; damage that is named is not cut. An older one comes
   * back when the span that had healed it ends in what was torn: it is not the one that was met now.
   */
  async #cutsNothing(files: SimFiles, sound: Promise<Sizes | null>): Promise<void> {
    const before = await sound;
    const store = await findStore(files).catch(() => null);
    const corrupted = store?.state.corrupted ?? null;
    if (before === null || corrupted === null || this.#named.has(corrupted)) return;
    const after = sizesOf(files);
    for (const [path, size] of before) {
      this.#world.check('TORN', (after.get(path) ?? 0) >= size, () => {
        return `${path} had ${size} bytes, and ${after.get(path) ?? 0} since it was damaged: ${corrupted}`;
      });
    }
  }

  second(): void {
    const { store } = this.#world;
    this.#forgetOld();
    if (store === null) return;
    const { line, lastNumber, durableNumber, corrupted } = store.state;
    this.#corruption(corrupted, lastNumber, durableNumber);
    const isSound = corrupted === null || this.#world.excuses.hubRotted;
    this.#world.check('DURABLE', (lastNumber >= this.#durable || this.#isReplaced(line, this.#line)) && isSound, () => {
      return `the hub holds ${lastNumber}, and has acknowledged ${this.#durable} as durable: ${corrupted ?? ''}`;
    });
    if (line !== null && !this.#lines.has(line.id)) this.#anotherLine(line.id);
  }

  /** What has gone bad is found when the hub starts, and named until a span has brought it again. */
  #corruption(corrupted: string | null, lastNumber: number, durableNumber: number): void {
    const { excuses } = this.#world;
    if (corrupted === null) {
      // A span that is not durable yet has brought nothing again for the next start.
      this.#soundFrom = Math.min(this.#soundFrom, lastNumber);
      if (!excuses.hubRotUnseen && durableNumber >= this.#soundFrom) excuses.hubRotted = false;
      return;
    }
    this.#soundFrom = Infinity;
    this.#world.coverage.happened('corruption-named');
    const { group, store } = this.#world;
    const expected = (store?.progress.consistentNumber ?? null) === null ? 'unprotected' : 'degraded';
    const state = group?.status().state ?? expected;
    this.#world.check('CORRUPT', state === expected, () => {
      return `the group is called ${state}, not ${expected}, and its journal is damaged: ${corrupted}`;
    });
  }

  /**
   * What was acknowledged of `acknowledged` is kept aside, which NODISCARD judges: an operator has let another line begin in its
   * place. Its agent may have gone long before, or the new line's files may lack.
   */
  #isReplaced(line: Line | null, acknowledged: string): boolean {
    return line?.id !== acknowledged && this.#world.excuses.groupBegunAnew > 0;
  }

  #anotherLine(line: string): void {
    const before = [...this.#lines];
    this.#lines.add(line);
    const { files } = this.#world.hub;
    for (const old of before) {
      const life = this.#world.hub.starts;
      void files.list(`/data/groups/vm1/lines/${old}`).then(
        () => {
          this.#world.check('NODISCARD', true, () => '');
        },
        () => {
          const same = life === this.#world.hub.starts && this.#lines.has(old);
          this.#world.check('NODISCARD', !same, () => `line ${old} is gone since ${line} has begun`);
        },
      );
    }
  }

  /** An operator or a disaster has taken away what was durable. */
  #forgetOld(): void {
    this.#world.unseenRot.look();
    const { groupBegunAnew, hubCameBackOlder, hubRots, dataForgotten } = this.#world.excuses;
    if (dataForgotten !== this.#forgotten) this.#lines.clear();
    this.#forgotten = dataForgotten;
    const older = hubCameBackOlder + hubRots;
    if (groupBegunAnew === this.#begunAnew && older === this.#older) return;
    this.#begunAnew = groupBegunAnew;
    this.#older = older;
    this.#durable = 0;
    this.#soundFrom = Infinity;
  }

  /** What a start finds; null when it cannot be told. */
  async #judge(files: SimFiles, fate: CrashFate, what: string): Promise<GroupStore['state'] | null> {
    const world = this.#world;
    const [durable, acknowledged] = [this.#durable, this.#line];
    const mayBeDamaged = world.excuses.hubRotted;
    const promise = fate === 'lose' || fate === 'keep' ? 'DURABLE' : 'TORN';
    try {
      const store = await findStore(files);
      if (store === null) {
        world.check(promise, durable === 0, () => `after ${what} the group is gone, ${durable} was durable`);
        return null;
      }
      const { state } = store;
      const { line, lastNumber, lastChecksum, consistentNumber, corrupted } = state;
      const isKept = lastNumber >= durable || this.#isReplaced(line, acknowledged);
      world.check(promise, (corrupted === null || mayBeDamaged) && isKept, () => {
        return `after ${what} the hub ends at ${lastNumber}, ${durable} was durable: ${corrupted ?? ''}`;
      });
      world.check('TORN', lastNumber === 0 || world.records.find(lastNumber, lastChecksum) !== null, () => {
        return `after ${what} the hub's last record ${lastNumber} is none that the agent has sent`;
      });
      if (consistentNumber !== null) {
        const fold = world.records.foldAt(consistentNumber, lastNumber, lastChecksum);
        const view = await store.openView();
        for (const volume of view.volumes) {
          const shown = await viewContents(world, view, volume.index);
          const expected = fold?.[volume.index];
          const at = expected === undefined ? -1 : shown.findIndex((id, block) => id !== expected[block]);
          world.check(promise, at < 0, () => {
            const shows = world.contents.describe(shown[at] ?? 0);
            const makes = world.contents.describe(expected?.[at] ?? 0);
            return `after ${what} block ${volume.index}:${at} at ${view.number} shows ${shows}, the records make ${makes}`;
          });
        }
        await view.close();
      }
      return state;
    } catch (thrown) {
      world.check(promise, false, () => `after ${what} the hub cannot be opened: ${asError(thrown).message}`);
      return null;
    }
  }
}

type Sizes = ReadonlyMap<string, number>;

function sizesOf(files: SimFiles): Sizes {
  const paths = files.pathsBelow('/data').filter((path) => path.endsWith('.seg'));
  return new Map(paths.map((path) => [path, files.storedBytes(path)]));
}
