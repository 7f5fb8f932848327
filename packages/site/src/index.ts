export { defaultRoot, defaultSite, siteLayout, socketDirectoryOf } from './layout.ts';
export { Site, type SiteOptions } from './site.ts';
