export { defaultRoot, defaultSite, siteLayout } from './layout.ts';
export { Site, type SiteOptions } from './site.ts';
