export * from './block-device.js';
