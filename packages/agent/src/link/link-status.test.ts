import { describe, expect, it } from 'vitest';
import { namesHub } from './link-status.js';

describe('namesHub', () => {
  it('finds the address of the URL, so that nobody reads it twice', () => {
    expect(namesHub('cannot connect to 127.0.0.1:9010: nobody listens there', 'tcp://127.0.0.1:9010')).toBe(true);
    expect(namesHub('cannot connect to unix:/run/hub.sock: no permission', 'unix:///run/hub.sock')).toBe(true);
    expect(namesHub('the hub ended the session', 'tcp://127.0.0.1:9010')).toBe(false);
  });
});
