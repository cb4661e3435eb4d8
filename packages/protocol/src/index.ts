export * from './frame.js';
export * from './frame-reader.js';
export * from './messages.js';
