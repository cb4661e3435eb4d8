/**
 * The client's requests in flight, found by the cookie that the server sends back: slot and generation, so
 * that a late, repeated or invented cookie is noticed.
 *
 * Always holds: a slot is reused only after its request was taken out, under a new generation.
 */
import type { BlockRequest } from '../block-device.js';
import type { ReadParts } from './read-parts.js';

const FIRST_SLOTS = 64;

export class InFlight {
  /** By slot. `received`: bytes of a read's answer so far; `end`: where its in-order part ends. */
  requests: (BlockRequest | null)[] = [];
  received = new Float64Array(0);
  end = new Float64Array(0);
  chunks = new Uint32Array(0);
  /** The first error a structured reply told. */
  errors = new Uint32Array(0);
  parts: (ReadParts | null)[] = [];
  count = 0;
  #generations = new Uint32Array(0);
  /** Orders what is in flight by when it was submitted. */
  #sequences = new Float64Array(0);
  #nextSequence = 1;
  #free: number[] = [];

  /** The number that the next request will get: requests below it were there before. */
  get nextSequence(): number {
    return this.#nextSequence;
  }

  /** Takes a request in; returns its slot. */
  add(request: BlockRequest): number {
    if (this.#free.length === 0) this.#grow();
    const slot = this.#free.pop() ?? 0;
    this.requests[slot] = request;
    this.received[slot] = 0;
    this.end[slot] = request.offset;
    this.chunks[slot] = 0;
    this.errors[slot] = 0;
    this.#sequences[slot] = this.#nextSequence++;
    this.count++;
    return slot;
  }

  generationOf(slot: number): number {
    return this.#generations[slot] ?? 0;
  }

  /** The slot of a cookie; -1 when nothing with it is in flight. */
  slotOf(generation: number, slot: number): number {
    return slot < this.requests.length && this.requests[slot] !== null && this.#generations[slot] === generation
      ? slot
      : -1;
  }

  /** Takes a request out. */
  remove(slot: number): BlockRequest | null {
    const request = this.requests[slot] ?? null;
    if (request === null) return null;
    this.requests[slot] = null;
    if (this.parts[slot] !== null) this.parts[slot] = null;
    this.#generations[slot] = ((this.#generations[slot] ?? 0) + 1) >>> 0;
    this.#free.push(slot);
    this.count--;
    return request;
  }

  /** Takes all out, in the order they were put in. */
  removeAll(): BlockRequest[] {
    const slots: number[] = [];
    for (const [slot, request] of this.requests.entries()) if (request !== null) slots.push(slot);
    slots.sort((one, other) => (this.#sequences[one] ?? 0) - (this.#sequences[other] ?? 0));
    const taken: BlockRequest[] = [];
    for (const slot of slots) {
      const request = this.remove(slot);
      if (request !== null) taken.push(request);
    }
    return taken;
  }

  /** True when something that was put in before `sequence` is still there. */
  hasOlderThan(sequence: number): boolean {
    if (this.count === 0) return false;
    for (const [slot, request] of this.requests.entries()) {
      if (request !== null && (this.#sequences[slot] ?? 0) < sequence) return true;
    }
    return false;
  }

  /** The one that was put in first. */
  oldest(): BlockRequest | null {
    let oldest: BlockRequest | null = null;
    let lowest = Infinity;
    for (const [slot, request] of this.requests.entries()) {
      const sequence = this.#sequences[slot] ?? Infinity;
      if (request === null || sequence >= lowest) continue;
      oldest = request;
      lowest = sequence;
    }
    return oldest;
  }

  #grow(): void {
    const before = this.requests.length;
    const after = Math.max(FIRST_SLOTS, before * 2);
    for (let slot = after - 1; slot >= before; slot--) {
      this.requests[slot] = null;
      this.parts[slot] = null;
      this.#free.push(slot);
    }
    this.received = grownFloats(this.received, after);
    this.end = grownFloats(this.end, after);
    this.#sequences = grownFloats(this.#sequences, after);
    this.chunks = grownInts(this.chunks, after);
    this.errors = grownInts(this.errors, after);
    this.#generations = grownInts(this.#generations, after);
  }
}

function grownFloats(from: Float64Array, length: number): Float64Array<ArrayBuffer> {
  const grown = new Float64Array(length);
  grown.set(from);
  return grown;
}

function grownInts(from: Uint32Array, length: number): Uint32Array<ArrayBuffer> {
  const grown = new Uint32Array(length);
  grown.set(from);
  return grown;
}
