/** What was read of a range, in pieces of one kind each, as records are made of it. Pure. */
import { cutSlices, isZeroes } from '@rephub/nbd';
import { type Piece as ByteRange, Ranges } from '../ranges.js';
import { cutAtZeroes, sliceRange } from './zero-runs.js';

export type PieceKind = 'data' | 'zero' | 'unreadable';

export interface ContentPiece {
  offset: number;
  length: number;
  kind: PieceKind;
  data: Buffer[];
}

export function piecesOf(offset: number, slices: readonly Buffer[]): ContentPiece[] {
  return cutAtZeroes(slices, isZeroes).map((run) => ({
    offset: offset + run.from,
    length: run.to - run.from,
    kind: run.zero ? 'zero' : 'data',
    data: run.zero ? [] : sliceRange(slices, run.from, run.to),
  }));
}

/** The same pieces, with these ranges as unreadable ones. */
export function withoutRanges(pieces: readonly ContentPiece[], ranges: readonly ByteRange[]): ContentPiece[] {
  const lost = new Ranges();
  for (const { offset, length } of ranges) lost.add(offset, offset + length);
  const cut: ContentPiece[] = [];
  for (const { offset, length, kind, data } of pieces) {
    for (const part of lost.within(offset, offset + length)) cut.push({ ...part, kind: 'unreadable', data: [] });
    for (const part of lost.missing(offset, offset + length)) {
      cut.push({ ...part, kind, data: cutSlices(data, part.offset - offset, data.length === 0 ? 0 : part.length) });
    }
  }
  return cut.sort((one, other) => one.offset - other.offset);
}
