/**
 * A leaf of an ExtentIndex: up to LEAF_EXTENTS extents in address order, in typed arrays, 20 bytes each.
 *
 * An extent's *place* says where its bytes are: the journal position of its first payload byte (0 or more), or,
 * below zero, a content without bytes. Those are encoded with their length, which may exceed 32 bits:
 * zeroes as -(2 × length), unreadable as -(2 × length + 1); such an extent's entry in `lengths` is not used.
 *
 * Must not know: other leaves, journals.
 */
export const LEAF_EXTENTS = 256;
/** What a leaf costs: its arrays, and roughly the objects around them. */
export const LEAF_BYTES = LEAF_EXTENTS * 20 + 512;

/** Content of a run: a journal position, or one of these. */
export const Place = {
  Zero: -1,
  Unreadable: -2,
  /** Nothing is known here: look below. */
  Gap: -3,
} as const;

export class ExtentLeaf {
  readonly starts = new Float64Array(LEAF_EXTENTS);
  readonly places = new Float64Array(LEAF_EXTENTS);
  readonly lengths = new Uint32Array(LEAF_EXTENTS);
  count = 0;

  start(index: number): number {
    return this.starts[index] as number;
  }

  length(index: number): number {
    const place = this.places[index] as number;
    return place < 0 ? Math.floor(-place / 2) : (this.lengths[index] as number);
  }

  end(index: number): number {
    return (this.starts[index] as number) + this.length(index);
  }

  /** The journal position, Place.Zero or Place.Unreadable. */
  place(index: number): number {
    const place = this.places[index] as number;
    if (place >= 0) return place;
    return -place % 2 === 0 ? Place.Zero : Place.Unreadable;
  }

  put(index: number, start: number, length: number, place: number): void {
    this.starts[index] = start;
    if (place >= 0) {
      this.places[index] = place;
      this.lengths[index] = length;
    } else {
      this.places[index] = place === Place.Zero ? -2 * length : -(2 * length + 1);
      this.lengths[index] = 0;
    }
  }

  /** Makes room at `index`; there must be some. */
  open(index: number): void {
    const { count } = this;
    if (index < count) {
      this.starts.copyWithin(index + 1, index, count);
      this.places.copyWithin(index + 1, index, count);
      this.lengths.copyWithin(index + 1, index, count);
    }
    this.count = count + 1;
  }

  /** Takes entries [from, to) out. */
  drop(from: number, to: number): void {
    const { count } = this;
    this.starts.copyWithin(from, to, count);
    this.places.copyWithin(from, to, count);
    this.lengths.copyWithin(from, to, count);
    this.count = count - (to - from);
  }

  /** Keeps what lies from `start` on of entry `index`. */
  trimFront(index: number, start: number): void {
    const cut = start - this.start(index);
    const place = this.place(index);
    this.put(index, start, this.length(index) - cut, place >= 0 ? place + cut : place);
  }

  /** Keeps what lies below `end` of entry `index`. */
  trimBack(index: number, end: number): void {
    this.put(index, this.start(index), end - this.start(index), this.place(index));
  }

  /** Appends entries [from, count) of `other`, which loses them; there must be room. */
  takeFrom(other: ExtentLeaf, from: number): void {
    this.starts.set(other.starts.subarray(from, other.count), this.count);
    this.places.set(other.places.subarray(from, other.count), this.count);
    this.lengths.set(other.lengths.subarray(from, other.count), this.count);
    this.count += other.count - from;
    other.count = from;
  }

  /** Index of the first entry that starts above `offset`. */
  firstAbove(offset: number): number {
    const { starts } = this;
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((starts[middle] as number) > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
