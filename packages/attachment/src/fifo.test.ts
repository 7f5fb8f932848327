import { expect, test } from 'vitest';
import { Fifo } from './fifo.ts';

test('a queue that never runs empty gives all that it was given, in order', () => {
  const fifo = new Fifo<number>();
  let pushed = 0;
  let taken = 0;
  for (; pushed < 3000; pushed++) fifo.push(pushed);
  for (let round = 0; round < 50_000; round++) {
    fifo.push(pushed++);
    if (fifo.first !== taken || fifo.shift() !== taken) throw new Error(`${taken} is not the first`);
    taken++;
    if (round % 10_000 === 0) expect([...fifo]).toEqual(Array.from({ length: 3000 }, (_, i) => taken + i));
  }
  while (fifo.shift() !== undefined) taken++;
  expect(taken).toBe(pushed);
  expect(fifo.length).toBe(0);
});

test('and is not larger for what went through it', () => {
  const items: number[] = [];
  const fifo = new Fifo(items);
  for (let i = 0; i < 10; i++) fifo.push(i);
  for (let i = 0; i < 100_000; i++) {
    fifo.push(i);
    fifo.shift();
  }
  expect(fifo.length).toBe(10);
  expect(items.length).toBeLessThan(3000);
});
