<?xml version="1.0"?>
<!-- Bounds QEMU's cache of translated code: 1 GiB for each emulated machine otherwise. The provider has no option for it. -->
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
  <xsl:output omit-xml-declaration="yes" indent="yes"/>
  <xsl:template match="node()|@*">
    <xsl:copy><xsl:apply-templates select="node()|@*"/></xsl:copy>
  </xsl:template>
  <xsl:template match="/domain/features">
    <xsl:copy>
      <xsl:apply-templates select="node()|@*"/>
      <tcg><tb-cache unit="MiB">128</tb-cache></tcg>
    </xsl:copy>
  </xsl:template>
</xsl:stylesheet>
