/**
 * The lineage table against a small world that keeps the promises around it (marks before writes, cleared on durable,
 * numbers reserved ahead): an agent and a hub that crash, lose power, are cut off, forgotten and restored from backups at
 * random. At each handshake the verdict must be sound: what it leaves unsent must be equal already.
 */
import { uuidBytes } from '@rephub/platform';
import { SeededRandomness } from '@rephub/platform/sim';
import { describe, expect, test } from 'vitest';
import { decideLineage, firstNumberOf } from './lineage.js';
import { chainStart, type Hello, type HubGroup } from './messages.js';

const BLOCKS = 6;
const WINDOW_RECORDS = 5;
/** How far ahead of use the agent stores that numbers may have been given. */
const RESERVE = 8;
const AGENT = 'aaaaaaaa-0000-4000-8000-000000000001';
const LINE = { id: 'cccccccc-0000-4000-8000-000000000001', parent: null };
const VOLUMES = [{ index: 0, name: 'disk0', sizeBytes: BLOCKS }];
const LINE_START = chainStart(uuidBytes(LINE.id));

interface LogRecord {
  readonly number: number;
  readonly kind: 'write' | 'begin' | 'end';
  readonly block: number;
  readonly value: number;
  readonly checksum: number;
  readonly previous: number;
}

interface HubState {
  session: number;
  nonce: string;
  records: LogRecord[];
  /** How many of them are durable. */
  durable: number;
}

class World {
  readonly random: SeededRandomness;
  readonly trace: string[] = [];
  readonly rows = new Map<string, number>();
  // Upstream and the agent's disk: what survives everything here.
  readonly upstream = new Array<number>(BLOCKS).fill(0);
  disk = {
    marks: new Set<number>(Array.from({ length: BLOCKS }, (_, block) => block)),
    tracking: 'new' as 'new' | 'marked' | 'untrusted',
    restsOn: 0,
    reserved: 0,
    session: 1,
    stoppedClean: false,
  };
  // The agent's process.
  lastNumber: number | null = null;
  chain = LINE_START;
  durableNumber = 0;
  window: LogRecord[] = [];
  stream: 'gap' | 'span' | 'streaming' = 'gap';
  /** The number of the record that carries a block's newest content, where it was recorded. */
  recorded = new Map<number, number>();
  toCopy = new Set<number>();
  // The link and the hub.
  connected = false;
  wire: LogRecord[] = [];
  hub: HubState | null = null;
  backups: HubState[] = [];
  /** The guest writes, or is idle for a while: then marks get cleared to the last. */
  guestBusy = true;
  values = 0;
  checksums = 100;

  constructor(seed: number) {
    this.random = new SeededRandomness(seed);
  }

  note(text: string): void {
    this.trace.push(text);
  }

  write(block: number): void {
    this.disk.marks.add(block);
    this.disk.stoppedClean = false;
    this.values += 1;
    this.upstream[block] = this.values;
    this.recorded.delete(block);
    if (this.stream === 'gap') {
      this.toCopy.add(block);
    } else if (this.window.length >= WINDOW_RECORDS) {
      this.stream = 'gap';
      this.toCopy.add(block);
    } else {
      this.toCopy.delete(block);
      this.record('write', block);
    }
  }

  /** A span begins once the window has room, when there is something to copy. */
  copy(): void {
    if (!this.connected || this.lastNumber === null || this.window.length > WINDOW_RECORDS / 2) return;
    if (this.stream === 'gap') {
      this.stream = 'span';
      this.record('begin', 0);
      return;
    }
    if (this.stream !== 'span') return;
    const [block] = this.toCopy;
    if (block === undefined) {
      if (this.random.chance(0.7)) return;
      this.record('end', 0);
      this.stream = 'streaming';
      return;
    }
    this.toCopy.delete(block);
    this.record('write', block);
  }

  record(kind: LogRecord['kind'], block: number): void {
    const number = (this.lastNumber ?? 0) + 1;
    if (number > this.disk.reserved) this.disk.reserved = number + RESERVE;
    this.checksums += 1;
    const record = {
      number,
      kind,
      block,
      value: this.upstream[block] ?? 0,
      checksum: this.checksums,
      previous: this.chain,
    };
    this.lastNumber = number;
    this.chain = record.checksum;
    this.window.push(record);
    if (kind === 'write') this.recorded.set(block, number);
    if (this.connected) this.wire.push(record);
  }

  deliver(): void {
    const record = this.wire.shift();
    if (record === undefined || this.hub === null) return;
    const last = this.hub.records.at(-1);
    expect(record.previous, 'the hub refuses the chain').toBe(last?.checksum ?? LINE_START);
    const gap = record.number - (last?.number ?? 0);
    expect(record.kind === 'begin' ? gap >= 1 : gap === 1 || last === undefined, 'the hub refuses the number').toBe(
      true,
    );
    this.hub.records.push(record);
  }

  hubSync(): void {
    if (this.hub !== null) this.hub.durable = this.hub.records.length;
  }

  acknowledge(): void {
    if (!this.connected || this.hub === null) return;
    const last = this.hub.records[this.hub.durable - 1];
    if (last === undefined || last.number <= this.durableNumber) return;
    this.durableNumber = last.number;
    while (this.window[0] !== undefined && this.window[0].number <= last.number) {
      this.window.shift();
    }
    for (const [block, number] of this.recorded) {
      if (number > last.number || !this.disk.marks.has(block)) continue;
      this.disk.marks.delete(block);
      this.disk.restsOn = Math.max(this.disk.restsOn, number);
    }
  }

  cut(): void {
    this.connected = false;
    this.wire = [];
  }

  agentStarts(): void {
    this.cut();
    this.lastNumber = null;
    this.durableNumber = this.disk.restsOn;
    this.window = [];
    this.stream = 'gap';
    this.recorded.clear();
    this.toCopy = new Set(this.disk.marks);
    this.disk.session += 1;
  }

  agentStopsClean(): void {
    if (this.disk.marks.size > 0 || this.lastNumber === null) return;
    this.disk.reserved = this.lastNumber;
    this.disk.stoppedClean = true;
    this.agentStarts();
  }

  /** Marks are lost, and the next start notices. */
  bitmapTorn(): void {
    this.disk.marks.clear();
    this.disk.tracking = 'untrusted';
    this.disk.stoppedClean = false;
    this.agentStarts();
  }

  hubLosesPower(): void {
    this.cut();
    if (this.hub !== null) this.hub.records.length = this.hub.durable;
  }

  backUp(): void {
    if (this.hub === null) return;
    this.backups.push({ ...this.hub, records: this.hub.records.slice(0, this.hub.durable) });
  }

  restore(): void {
    const chosen = this.backups[this.random.below(Math.max(1, this.backups.length))];
    if (chosen === undefined) return;
    this.cut();
    this.hub = { ...chosen, records: [...chosen.records], durable: chosen.records.length };
  }

  hello(): Hello {
    const { stoppedClean, marks } = this.disk;
    const clean = stoppedClean || (marks.size === 0 && this.disk.tracking === 'marked' && this.lastNumber !== null);
    return {
      protocol: { min: 1, max: 1 },
      features: [],
      software: 'model',
      group: 'vm1',
      agentId: AGENT,
      session: this.disk.session,
      nonce: `bbbbbbbb-0000-4000-8000-${String(this.disk.session).padStart(12, '0')}`,
      line: LINE,
      lastNumber: this.lastNumber ?? this.disk.reserved,
      restsOn: this.disk.restsOn,
      durableNumber: this.durableNumber,
      window:
        this.lastNumber === null
          ? null
          : {
              first: this.window[0]?.number ?? this.lastNumber + 1,
              last: this.lastNumber,
              previousChecksum: this.window[0]?.previous ?? this.chain,
            },
      tracking: clean ? 'clean' : this.disk.tracking,
      volumes: VOLUMES,
      mode: 'async',
    };
  }

  hubGroup(): HubGroup | null {
    const hub = this.hub;
    if (hub === null) return null;
    // What an older session had queued is written before Welcome.
    hub.durable = hub.records.length;
    let spanOpen = false;
    let consistentNumber: number | null = null;
    for (const record of hub.records) {
      if (record.kind === 'begin') spanOpen = true;
      if (record.kind === 'end') spanOpen = false;
      if (!spanOpen) consistentNumber = record.number;
    }
    const last = hub.records.at(-1);
    return {
      owner: AGENT,
      ownerSession: hub.session,
      ownerNonce: hub.nonce,
      line: LINE,
      lastNumber: last?.number ?? 0,
      lastChecksum: last?.checksum ?? LINE_START,
      spanOpen,
      consistentNumber,
      failedOver: false,
      volumes: VOLUMES,
    };
  }

  /** Blocks in which the hub, with `more` records on top, differs from upstream. */
  differing(more: readonly LogRecord[] = []): number[] {
    const content = new Array<number>(BLOCKS).fill(0);
    for (const record of [...(this.hub?.records ?? []), ...more]) {
      if (record.kind === 'write') content[record.block] = record.value;
    }
    return content.flatMap((value, block) => (value === this.upstream[block] ? [] : [block]));
  }

  connect(): void {
    if (this.connected) return;
    const hello = this.hello();
    const group = this.hubGroup();
    const verdict = decideLineage(hello, group);
    this.rows.set(verdict.row, (this.rows.get(verdict.row) ?? 0) + 1);
    this.note(`connect ${verdict.row}: ${verdict.reason}`);
    const resent = this.window.filter((record) => record.number >= (verdict.resumeFrom ?? Infinity));
    switch (verdict.kind) {
      case 'nothing-to-do':
        expect(this.differing(), 'nothing to do, yet there is a difference').toEqual([]);
        break;
      case 'resume': {
        const unsent = this.differing(resent).filter((block) => !this.toCopy.has(block));
        expect(unsent, 'resumed, and something would be left out').toEqual([]);
        break;
      }
      case 'resync-by-bitmap': {
        const unmarked = this.differing().filter((block) => !this.disk.marks.has(block));
        expect(unmarked, 'resynced by bitmap, and something is not marked').toEqual([]);
        break;
      }
      case 'first-sync':
      case 'compare-everything':
        break;
      default:
        throw new Error(`an honest agent was turned away: ${verdict.row}: ${verdict.reason}`);
    }
    this.hub ??= { session: 0, nonce: '', records: [], durable: 0 };
    this.hub.session = hello.session;
    this.hub.nonce = hello.nonce;
    this.connected = true;
    if (verdict.kind === 'resume') {
      this.wire.push(...resent);
      return;
    }
    this.window = [];
    this.recorded.clear();
    this.disk.stoppedClean = false;
    this.lastNumber = firstNumberOf(verdict) - 1;
    this.chain = verdict.previousChecksum;
    if (verdict.kind === 'nothing-to-do') {
      this.stream = 'streaming';
      return;
    }
    if (verdict.kind !== 'resync-by-bitmap') {
      for (let block = 0; block < BLOCKS; block += 1) this.disk.marks.add(block);
      this.disk.tracking = 'marked';
      this.disk.restsOn = 0;
      this.durableNumber = 0;
    }
    this.toCopy = new Set(this.disk.marks);
    this.stream = 'gap';
    if (this.random.chance(0.9)) this.copy();
  }

  step(withBackups: boolean): void {
    const dice = this.random.below(100);
    const act = (what: string, run: () => void): void => {
      this.note(what);
      run();
    };
    if (this.random.chance(0.02)) this.guestBusy = !this.guestBusy;
    if (dice < 25 && this.guestBusy) act('write', () => this.write(this.random.below(BLOCKS)));
    else if (dice < 45) act('copy', () => this.copy());
    else if (dice < 65) act('deliver', () => this.deliver());
    else if (dice < 72) act('hub syncs', () => this.hubSync());
    else if (dice < 80) act('acknowledge', () => this.acknowledge());
    else if (dice < 91) act('connect', () => this.connect());
    else if (dice < 93) act('cut', () => this.cut());
    else if (dice < 95) act('agent killed', () => this.agentStarts());
    else if (dice < 96) act('agent stops', () => this.agentStopsClean());
    else if (dice < 98) act('hub loses power', () => this.hubLosesPower());
    else if (!withBackups) act('calm', () => this.calm());
    else this.disaster(act);
  }

  disaster(act: (what: string, run: () => void) => void): void {
    const dice = this.random.below(10);
    if (dice < 4) act('hub backed up', () => this.backUp());
    else if (dice < 7) act('hub restored', () => this.restore());
    else if (dice < 8)
      act('group forgotten', () => {
        this.cut();
        this.hub = null;
      });
    else if (dice < 9) act('bitmap torn', () => this.bitmapTorn());
    else act('calm', () => this.calm());
  }

  /** No more faults: everything that is under way gets done. */
  calm(): void {
    this.connect();
    for (let round = 0; round < 200; round += 1) {
      this.copy();
      this.deliver();
      this.hubSync();
      this.acknowledge();
    }
    expect(this.differing(), 'after the calm both sides are equal').toEqual([]);
    const group = this.hubGroup();
    expect(group?.spanOpen, 'and no span is open').toBe(false);
    expect(group?.consistentNumber, 'and its last point is consistent').toBe(group?.lastNumber);
    expect([...this.disk.marks], 'and no mark is left').toEqual([]);
  }
}

function run(seeds: number, steps: number, withBackups: boolean): Map<string, number> {
  const rows = new Map<string, number>();
  for (let seed = 1; seed <= seeds; seed += 1) {
    const world = new World(seed);
    try {
      for (let step = 0; step < steps; step += 1) world.step(withBackups);
      world.calm();
    } catch (thrown) {
      const tail = world.trace.slice(-40).join('\n  ');
      throw new Error(`seed ${seed}, step ${world.trace.length}:\n  ${tail}`, { cause: thrown });
    }
    for (const [row, times] of world.rows) rows.set(row, (rows.get(row) ?? 0) + times);
  }
  return rows;
}

describe('lineage in a world of crashes', () => {
  test('killed agents, hubs without power and cut links: every verdict is sound, and all converges', () => {
    const rows = run(400, 300, false);
    for (const row of [
      'L1-unknown-new',
      'L15-equal',
      'L16-resume',
      'L17-first-sync-cut',
      'L18-span-open',
      'L20-hub-behind',
    ]) {
      expect(rows.get(row) ?? 0, `${row} was met`).toBeGreaterThan(10);
    }
    expect(
      [...rows.keys()].filter((row) => /^L(9|10|11|12)-/.test(row)),
      'an honest hub is never suspected',
    ).toEqual([]);
  });

  test('hubs restored from backups and forgotten groups, torn bitmaps: every verdict is sound, and all converges', () => {
    const rows = run(400, 400, true);
    for (const row of ['L2-unknown-known', 'L9-hub-older', 'L10-hub-lost-durable', 'L14-untrusted']) {
      expect(rows.get(row) ?? 0, `${row} was met`).toBeGreaterThan(10);
    }
  });
});
