import { describe, expect, it } from 'vitest';
import { FIGURES, FIGURE_NAMES, LATENCY_BOUNDS, type Figure } from './definitions.ts';
import { Histogram } from './histogram.ts';
import { acceptSamples, Samples } from './samples.ts';
import { prometheusText } from './text.ts';

describe('the table of figures', () => {
  it('keeps to the conventions of Prometheus', () => {
    const breaches = FIGURE_NAMES.flatMap((name) => {
      const figure: Figure = FIGURES[name];
      return [
        ...(/^ashlar_[a-z][a-z_]*[a-z]$/.test(name) ? [] : [`${name}: not a name`]),
        ...((figure.type === 'counter') === name.endsWith('_total') ? [] : [`${name}: _total is for counters, and for all of them`]),
        ...(/_(ms|us|kib|mib|milliseconds|percent)(_|$)/.test(name) ? [`${name}: not a base unit`] : []),
        ...(/^.*\S\.$/.test(figure.help) && !figure.help.includes('\n') ? [] : [`${name}: help is a sentence`]),
        ...(figure.labels.every((label) => /^[a-z]+$/.test(label) && label !== 'le') ? [] : [`${name}: labels`]),
      ];
    });
    expect(breaches).toEqual([]);
    expect(FIGURE_NAMES.length).toBeGreaterThan(50);
  });
});

describe('Histogram', () => {
  it('counts each value once, at the smallest bound that holds it', () => {
    const histogram = new Histogram([1, 10]);
    for (const value of [0, 1, 1.5, 10, 11, 1000]) histogram.record(value);
    expect(histogram.value).toEqual({ counts: [2, 2, 2], sum: 1023.5 });
    expect(histogram.count).toBe(6);
  });

  it('wants rising bounds', () => {
    expect(() => new Histogram([1, 1])).toThrow('bounds rise');
  });
});

describe('Samples', () => {
  it('refuses what is not as defined', () => {
    const samples = new Samples();
    expect(() => samples.add('ashlar_failovers_total', 1, 'x')).toThrow();
    expect(() => samples.add('ashlar_host_attachments', 1)).toThrow();
    expect(() => samples.add('ashlar_host_attachments', Number.NaN, 'host-1')).toThrow();
    expect(() => samples.add('ashlar_host_attachments', { counts: [1], sum: 1 }, 'host-1')).toThrow();
    expect(() => samples.add('ashlar_host_request_duration_seconds', 1, 'host-1', 'read')).toThrow();
    expect(samples.all).toEqual([]);
    samples.add('ashlar_host_attachments', 1, 'x'.repeat(1000));
    expect(acceptSamples(samples.all)).toMatchObject([{ labels: ['x'.repeat(128)] }]);
  });

  it('takes from elsewhere what it knows, and nothing else', () => {
    const good = { name: 'ashlar_host_attachments', labels: ['host-1'], value: 2 };
    const bad = [null, 1, {}, { ...good, name: 'toString' }, { ...good, name: 'ashlar_of_tomorrow' }, { ...good, labels: [] }, { ...good, labels: ['x'.repeat(200)] }, { ...good, labels: [1] }, { ...good, value: '2' }, { ...good, value: null },
      { name: 'ashlar_host_request_duration_seconds', labels: ['h', 'read'], value: { counts: [1], sum: 1 } }];
    expect(acceptSamples([...bad, good])).toEqual([good]);
    expect(acceptSamples('x')).toEqual([]);
  });
});

describe('the text', () => {
  it('is what Prometheus reads', () => {
    const samples = new Samples();
    const durations = new Histogram(LATENCY_BOUNDS);
    for (const value of [0.000_04, 0.3, 0.3, 100]) durations.record(value);
    samples.add('ashlar_failovers_total', 3);
    samples.add('ashlar_host_request_duration_seconds', durations.value, 'host-1', 'write');
    samples.add('ashlar_build_info', 1, 'a"b\\c\nd');
    samples.add('ashlar_build_info', 1, 'a"b\\c\nd');
    const lines = prometheusText(samples.all).split('\n');
    expect(lines.slice(0, 5)).toEqual([
      '# HELP ashlar_build_info 1; the version of the system manager.', '# TYPE ashlar_build_info gauge', 'ashlar_build_info{version="a\\"b\\\\c\\nd"} 1',
      `# HELP ashlar_host_request_duration_seconds ${FIGURES.ashlar_host_request_duration_seconds.help}`, '# TYPE ashlar_host_request_duration_seconds histogram',
    ]);
    const series = 'ashlar_host_request_duration_seconds';
    expect(lines).toContain(`${series}_bucket{host="host-1",operation="write",le="0.00005"} 1`);
    expect(lines).toContain(`${series}_bucket{host="host-1",operation="write",le="0.25"} 1`);
    expect(lines).toContain(`${series}_bucket{host="host-1",operation="write",le="0.5"} 3`);
    expect(lines).toContain(`${series}_bucket{host="host-1",operation="write",le="+Inf"} 4`);
    expect(lines).toContain(`${series}_sum{host="host-1",operation="write"} 100.60004`);
    expect(lines).toContain(`${series}_count{host="host-1",operation="write"} 4`);
    expect(lines).toContain('ashlar_failovers_total 3');
    expect(lines.at(-1)).toBe('');
  });

  it('is empty where there is nothing to say', () => expect(prometheusText([])).toBe(''));
});
