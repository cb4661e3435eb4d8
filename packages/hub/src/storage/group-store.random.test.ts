/** Random histories against the model: whatever is open must stay what it was, whatever is opened must be right. */
import { writeBytes, zeroRange } from '@rephub/nbd';
import { Fault } from '@rephub/platform';
import { nodeCodecs } from '@rephub/platform/node';
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import type { Branch, GroupStore, GroupStoreOptions, View } from './store-types.js';
import { type ModelVolume, ScriptedAgent } from './testing/scripted-agent.js';
import { difference, expectBase, expectView, openStore, OWNER, pattern } from './testing/store-kit.js';

interface HeldBranch {
  readonly branch: Branch;
  readonly model: ModelVolume[];
  over: boolean;
}

/** Asked anew after waiting, which the compiler does not expect. */
function isExpired(held: { readonly expired: boolean }): boolean {
  return held.expired;
}

function isOver(held: { readonly over: boolean }): boolean {
  return held.over;
}

/** One random life of a group; every failure names the seed. */
class History {
  readonly #random: SeededRandomness;
  readonly #clock = new SimClock();
  #files = new SimFiles({ clock: this.#clock });
  readonly #agent: ScriptedAgent;
  readonly #options: Partial<GroupStoreOptions>;
  #store: GroupStore | null = null;
  #views: { view: View; expired: boolean }[] = [];
  #branches: HeldBranch[] = [];
  #spanOpen = false;
  #everSynced = false;
  #sizes = new Map<number, number>();
  #names = 0;

  constructor(seed: number) {
    this.#random = new SeededRandomness(seed);
    this.#agent = new ScriptedAgent(undefined, seed % 2 === 0 ? nodeCodecs() : []);
    const { below } = { below: (limit: number) => this.#random.below(limit) };
    this.#options = {
      retentionMs: [0, 0, 2000, 60_000, 3_600_000][below(5)] ?? 0,
      segmentBytes: [8192, 16_384, 65_536][below(3)] ?? 8192,
      indexBytes: [30_000, 200_000, 64 * 1024 * 1024][below(3)] ?? 0,
      ...(below(3) === 0 ? { journalMaxBytes: 100_000 } : {}),
    };
  }

  async live(steps: number): Promise<void> {
    await this.#open();
    this.#addVolume();
    this.#agent.spanBegin();
    this.#spanOpen = true;
    for (let step = 0; step < steps; step += 1) await this.#step(`step ${step}`);
    await this.#endSpan();
    await this.#letGo();
    await this.#now.close({ drain: true });
    await expectBase(this.#files, this.#agent, this.#agent.lastNumber, 'at the end');
  }

  get #now(): GroupStore {
    if (this.#store === null) throw new Error('no store');
    return this.#store;
  }

  async #step(note: string): Promise<void> {
    const random = this.#random;
    switch (random.below(16)) {
      case 0:
        await this.#openView();
        break;
      case 1:
        await this.#checkViews(note);
        break;
      case 2:
        if (random.chance(0.3)) await this.#restart(note);
        break;
      case 3:
        await this.#toggleSpan();
        break;
      case 4:
        if (random.chance(0.3)) this.#changeVolumes();
        break;
      case 5:
        await this.#clock.advance(random.below(4000));
        break;
      case 6:
        await this.#useBranch(note);
        break;
      default:
        for (let records = random.below(12); records >= 0; records -= 1) this.#record();
        if (random.chance(0.7)) await this.#send();
    }
  }

  #record(): void {
    const random = this.#random;
    const indexes = [...this.#sizes.keys()];
    const index = indexes[random.below(indexes.length)];
    if (index === undefined) return;
    const size = this.#sizes.get(index) ?? 0;
    const offset = random.below(size);
    const length = 1 + random.below(Math.min(size - offset, random.chance(0.2) ? 9000 : 600));
    switch (random.below(12)) {
      case 0:
        this.#agent.zero(index, offset, length);
        break;
      case 1:
        this.#agent.zero(index, offset, length, true);
        break;
      case 2:
        if (random.chance(0.2)) this.#agent.unreadable(index, offset, length);
        break;
      case 3:
        this.#agent.flush(index);
        break;
      default:
        this.#agent.write(index, offset, pattern(length, random.below(10_000)));
    }
    this.#agent.wait(random.below(300));
  }

  #addVolume(): void {
    const index = this.#random.below(200);
    if (this.#sizes.has(index)) return;
    this.#names += 1;
    const sizeBytes = 1000 + this.#random.below(40_000);
    // Sometimes the name of one that went.
    const name = `disk${this.#random.chance() ? index : 1000 + this.#names}`;
    this.#agent.addVolume(index, name, sizeBytes);
    this.#sizes.set(index, sizeBytes);
  }

  #changeVolumes(): void {
    const random = this.#random;
    const [first] = this.#sizes.keys();
    switch (random.below(3)) {
      case 0:
        this.#addVolume();
        break;
      case 1:
        if (first === undefined || this.#sizes.size < 2) return;
        this.#agent.removeVolume(first);
        this.#sizes.delete(first);
        break;
      default: {
        if (first === undefined) return;
        const sizeBytes = 1000 + random.below(40_000);
        this.#agent.resize(first, sizeBytes);
        this.#sizes.set(first, sizeBytes);
      }
    }
  }

  async #toggleSpan(): Promise<void> {
    if (this.#spanOpen) this.#agent.spanEnd();
    else this.#agent.spanBegin(this.#random.below(20));
    this.#everSynced ||= this.#spanOpen;
    this.#spanOpen = !this.#spanOpen;
    await this.#send();
  }

  async #endSpan(): Promise<void> {
    if (this.#spanOpen) this.#agent.spanEnd();
    await this.#send();
  }

  async #send(): Promise<void> {
    this.#agent.sendTo(this.#now, Infinity, 1 + this.#random.below(5000));
    await this.#now.settled();
    expect(this.#now.state.consistentNumber).toBe(this.#agent.consistentAt(this.#now.state.durableNumber));
  }

  async #openView(): Promise<void> {
    if (this.#views.length > 5) await this.#views.shift()?.view.close();
    try {
      const held = { view: await this.#now.openView(), expired: false };
      held.view.onExpired(() => {
        held.expired = true;
      });
      this.#views.push(held);
    } catch (error) {
      if (!(error instanceof Fault) || error.code !== 'no-consistent-point' || this.#everSynced) throw error;
    }
  }

  async #checkViews(note: string): Promise<void> {
    for (const held of this.#views) {
      if (held.expired) continue;
      try {
        await expectView(held.view, this.#agent, note);
      } catch (error) {
        // A hard limit may take a point away at any moment, also between two reads.
        if (!isExpired(held)) throw error;
      }
    }
    for (const held of this.#branches) {
      if (held.over) continue;
      for (const volume of held.model) {
        const found = await difference(held.branch.device(volume.name), volume);
        if (found !== null && !isOver(held)) throw new Error(`${note}: branch: ${found}`);
      }
    }
  }

  async #useBranch(note: string): Promise<void> {
    const random = this.#random;
    let held = this.#branches[0];
    if (held === undefined || random.chance(0.2)) {
      if (!this.#everSynced || this.#branches.length > 2) return;
      const branch = await this.#now.openBranch(`b${this.#branches.length}-${random.below(1e9)}`, {
        scratchBytes: 1e6,
      });
      const fresh = { branch, model: this.#agent.modelAt(branch.number), over: false };
      branch.onOver(() => {
        fresh.over = true;
      });
      this.#branches.push(fresh);
      held = fresh;
    }
    if (held.over || random.chance(0.1)) {
      this.#branches = this.#branches.filter((other) => other !== held);
      await held.branch.drop();
      return;
    }
    const volume = held.model[random.below(held.model.length)];
    if (volume === undefined) return;
    const device = held.branch.device(volume.name);
    const offset = random.below(volume.content.length);
    const length = 1 + random.below(Math.min(volume.content.length - offset, 3000));
    const data = pattern(length, random.below(1000));
    try {
      if (random.chance(0.7)) {
        await writeBytes(device, offset, data, random.chance());
        volume.content.set(data, offset);
      } else {
        await zeroRange(device, offset, length);
        volume.content.fill(0, offset, offset + length);
      }
    } catch (error) {
      if (!isOver(held)) throw error;
    }
    await this.#checkViews(note);
  }

  async #restart(note: string): Promise<void> {
    await this.#checkViews(note);
    await this.#send();
    if (this.#random.chance()) {
      await this.#letGo();
      await this.#now.close({ drain: this.#random.chance() });
    } else {
      this.#files = this.#files.crash({ seed: this.#random.below(1e9) });
    }
    this.#views = [];
    this.#branches = [];
    await this.#open();
    expect(this.#now.state).toMatchObject({ corrupted: null, lastNumber: this.#agent.lastNumber });
    await this.#openView();
    await this.#checkViews(`${note}, restarted`);
  }

  async #letGo(): Promise<void> {
    await this.#checkViews('letting go');
    for (const { branch } of this.#branches) await branch.drop();
    for (const { view } of this.#views) await view.close();
    this.#branches = [];
    this.#views = [];
  }

  async #open(): Promise<void> {
    const randomness = new SeededRandomness(this.#random.below(1e9));
    const on = { clock: this.#clock, files: this.#files, randomness, codecs: nodeCodecs() };
    this.#store = await openStore(on, this.#options);
    await this.#store.setOwner(OWNER);
    await this.#store.beginLine(this.#agent.line);
  }
}

describe('group store, random histories', () => {
  const seeds = Array.from({ length: 40 }, (_, index) => index + 1);
  it.each(seeds)('PIT, ISOLATE, LASTGOOD: whatever is open is what the model holds (seed %i)', async (seed) => {
    await new History(seed).live(150);
  });
});
